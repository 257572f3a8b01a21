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
