"use strict";
const tools = document.getElementById("tools");
const search = document.getElementById("search");
const state = document.getElementById("status");
const items = [...document.querySelectorAll(".card, .troubles tbody tr")];
const told = (item) => (item.matches("tr") ? [item] : [...item.querySelectorAll("header, .why")]);
const texts = items.map((item) => told(item).map((part) => part.textContent).join(" ").toLowerCase());

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  items.forEach((item, i) => {
    const fits = !state.value || item.dataset.status === state.value;
    item.hidden = !fits || !words.every((word) => texts[i].includes(word));
  });
  const cards = document.querySelectorAll(".card:not([hidden])").length;
  const rows = document.querySelectorAll(".troubles tbody tr:not([hidden])").length;
  const say = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  document.getElementById("found").textContent = `${say(cards, "card")}, ${say(rows, "reason")}`;
}

tools.hidden = false;
tools.addEventListener("input", filter);
tools.addEventListener("submit", (event) => event.preventDefault());
filter();

// only what is seen plays: dozens of videos at once would stall the page
if ("IntersectionObserver" in window && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) target.play().catch(() => {});
      else target.pause();
    }
  }, { threshold: 0.4 });
  document.querySelectorAll("video").forEach((video) => watcher.observe(video));

  // four panels beside each other are low on a phone: controls would cover them, so they come with the first tap
  if (matchMedia("(max-width: 820px)").matches) {
    document.querySelectorAll(".film video").forEach((video) => {
      video.controls = false;
      video.addEventListener("click", () => { video.controls = true; }, { once: true });
    });
  }
}
