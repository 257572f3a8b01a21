"""Opens a page in chromium and hands back what a probe inside it saw.

The page is opened from its file. It stands in a frame, since chromium's own window is never narrower than 500 px, and
the probe sends what it saw to a socket that only this test listens on.
"""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update",
         "--autoplay-policy=no-user-gesture-required"]  # fmt: skip

BEFORE = """<script>
window.seen = {errors: []};
const blame = (e) => seen.errors.push(e.message || "did not load: " + (e.target.src || e.target.href));
addEventListener("error", blame, true);
addEventListener("unhandledrejection", (e) => seen.errors.push(String(e.reason)));
console.error = (...words) => seen.errors.push(words.join(" "));
</script>"""

AFTER = """<script type="module">
const videos = [...document.querySelectorAll("video")];
seen.untouched = videos.every((v) => v.paused && v.readyState === 0);
const enter = (name, value) => {
  const field = document.getElementById(name);
  field.value = value;
  field.dispatchEvent(new Event("input", {bubbles: true}));
  const visible = (what) => [...document.querySelectorAll(what)].filter((e) => e.checkVisibility()).length;
  return [visible(".card"), visible(".troubles tbody tr")];
};
for (const image of document.images) image.loading = "eager";
const broken = (image) => seen.errors.push("broken: " + image.src);
await Promise.all([...document.images].map((image) => image.decode().catch(() => broken(image))));
await Promise.all([...document.querySelectorAll("video")].map((video) => new Promise((done) => {
  if (video.readyState >= 2) return done();
  video.addEventListener("loadeddata", done);
  video.addEventListener("error", done);
  video.preload = "auto";
})));
seen.title = document.title;
seen.inner = innerWidth;
seen.scroll = document.documentElement.scrollWidth;
seen.client = document.documentElement.clientWidth;
seen.images = [...document.images].map((image) => image.naturalWidth);
const happens = (what, name) => new Promise((done) => what.addEventListener(name, done, {once: true}));
const soon = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const [film, other] = document.querySelectorAll(".film[data-last]");
if (film) {
  const video = film.querySelector("video"), screen = film.querySelector(".screen");
  const button = film.querySelector("button"), slider = film.querySelector("input");
  const say = (kind, pointerType) => screen.dispatchEvent(new PointerEvent("pointer" + kind, {pointerType}));
  const pull = (frame) => { slider.value = frame; slider.dispatchEvent(new Event("input")); };
  const drawn = () => new Promise((done) => video.requestVideoFrameCallback((_, frame) => done(frame.mediaTime)));
  seen.slid = [];
  for (const frame of [3, 1, 2]) {
    const shown = drawn();
    pull(frame);
    seen.slid.push(Math.round(await shown * film.dataset.fps));
  }
  pull(0); pull(3); pull(2);  // faster than the film can follow
  for (let tries = 0; tries < 100 && (video.seeking || Math.floor(video.currentTime * film.dataset.fps) !== 2); tries++)
    await soon(20);
  seen.last = [Math.floor(video.currentTime * film.dataset.fps), film.querySelector("output").textContent];
  say("enter", "touch");
  seen.touched = video.paused;
  say("enter", "mouse");
  seen.hovered = !video.paused;
  await soon(50);
  say("leave", "mouse");
  seen.left = video.paused;
  button.click();
  say("leave", "mouse");
  seen.pressed = [!video.paused];
  await soon(100);
  seen.pressed.push(button.textContent);
  if (other) {
    other.querySelector("button").click();
    seen.one = video.paused && !other.querySelector("video").paused;
    other.querySelector("button").click();
  } else button.click();
  slider.focus();
  seen.keys = [button.tabIndex, slider.tabIndex, document.activeElement === slider, slider.step || "1"];
}
seen.videos = [...document.querySelectorAll("video")].map((v) => ({ready: v.readyState, seconds: v.duration,
  width: v.videoWidth, height: v.videoHeight, muted: v.muted, loop: v.loop, controls: v.controls,
  inline: v.playsInline}));
seen.background = getComputedStyle(document.body).backgroundColor;
seen.all = enter("search", "");
seen.searched = enter("search", "no face");
enter("search", "");
seen.failed = enter("status", "failed");
parent.postMessage(JSON.stringify(seen), "*");
</script>"""

FRAME = """<!doctype html><iframe src="{page}" style="width: {width}px; height: {height}px; border: 0"></iframe>
<script>
const send = (text) => fetch("http://127.0.0.1:{port}/", {{method: "POST", mode: "no-cors", body: text}});
addEventListener("message", (e) => send(e.data));
</script>"""


def look(page: Path, profile: Path, width: int, height: int = 900, *flags: str) -> dict:
    """What the probe saw in a copy of ``page``, laid out at ``width`` x ``height`` px."""
    got: list[dict] = []
    arrived = threading.Event()

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            arrived.set()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    html = page.read_text("utf-8").replace("<head>", "<head>" + BEFORE, 1).replace("</body>", AFTER + "</body>")
    probed, frame = page.with_name("probed.html"), page.with_name("frame.html")
    probed.write_text(html, "utf-8")
    frame.write_text(FRAME.format(page=probed.name, width=width, height=height, port=server.server_port), "utf-8")
    said = profile.with_suffix(".log")
    with said.open("w") as log:
        window = f"--window-size={max(500, width)},{height}"
        command = [CHROMIUM, *FLAGS, *flags, window, f"--user-data-dir={profile}", frame.as_uri()]
        browser = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            assert arrived.wait(40), f"the probe did not answer; chromium said: {said.read_text()[-2000:]}"
        finally:
            browser.terminate()
            browser.wait(10)
            server.shutdown()
            server.server_close()
            probed.unlink()
            frame.unlink()
    return got[0]
