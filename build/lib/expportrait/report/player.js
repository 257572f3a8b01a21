// films: a slider and a button in the place of the browser's controls; whoever asked for less motion has to press play
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function player(film) {
  const part = (name) => film.querySelector(name);
  const [video, screen, button, slider, told] = ["video", ".screen", "button", "input", "output"].map(part);
  const fps = Number(film.dataset.fps), last = Number(film.dataset.last);
  let wanted = null, kept = false;  // the frame that the slider asks for; whether the film goes on without the pointer

  const tell = (frame) => { slider.value = frame; told.textContent = `${frame} / ${last}`; };
  const current = () => Math.min(last, Math.floor(video.currentTime * fps + 0.01));
  const follow = () => {
    if (video.paused) return;
    tell(current());
    requestAnimationFrame(follow);
  };
  // to the middle of a frame: at its edge, rounding may give the one before
  const seek = (frame) => { video.currentTime = (frame + 0.5) / fps; };
  const play = () => {
    for (const other of document.querySelectorAll("video")) if (other !== video) other.pause();
    if (video.readyState === 0) seek(Number(slider.value));
    wanted = null;
    video.play().catch(() => {});
  };
  const stop = () => { kept = false; video.pause(); };
  const toggle = () => {
    if (!video.paused) return stop();
    kept = true;
    play();
  };

  video.controls = false;
  part(".player").hidden = false;
  screen.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse" && !calm.matches && video.paused) play();
  });
  screen.addEventListener("pointerleave", () => { if (!kept) video.pause(); });
  screen.addEventListener("click", toggle);
  button.addEventListener("click", toggle);
  slider.addEventListener("input", () => {
    stop();
    wanted = Number(slider.value);
    tell(wanted);
    video.preload = "auto";
    if (!video.seeking) seek(wanted);  // one at a time: the next one starts where this one ends
  });
  video.addEventListener("seeked", () => {
    if (wanted !== null && wanted !== current()) seek(wanted);
    else wanted = null;
  });
  video.addEventListener("play", () => { button.textContent = "pause"; follow(); });
  video.addEventListener("pause", () => { button.textContent = "play"; });
}
document.querySelectorAll(".film[data-last]").forEach(player);
