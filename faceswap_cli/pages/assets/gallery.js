"use strict";
// Sorts each gallery's tiles by their numbers, and filters them by their tags.

for (const gallery of document.querySelectorAll(".gallery")) {
  const tiles = gallery.querySelector(".tiles"), buttons = [...gallery.querySelectorAll("button")];
  const boxes = [...gallery.querySelectorAll("input")], all = [...tiles.children];
  const numbers = new Map(all.map(t => [t, t.dataset.n.split(" ").map(Number)]));
  const order = (k, sign) => {
    const known = t => !Number.isNaN(numbers.get(t)[k]);
    all.sort((a, b) => known(b) - known(a) || sign * (numbers.get(a)[k] - numbers.get(b)[k]));
    for (const t of all) {
      t.lastChild.textContent = known(t) ? +numbers.get(t)[k].toPrecision(3) : "n/a";
    }
    tiles.append(...all);
  };
  const choose = () => {
    const wanted = boxes.filter(b => b.checked).map(b => b.value);
    for (const t of all) {
      t.hidden = wanted.length > 0 && !t.dataset.m.split(" ").some(m => wanted.includes(m));
    }
  };
  buttons.forEach((button, k) => button.onclick = () => {
    const sign = button.classList.contains("on") ? -Number(button.value) : 1;
    buttons.forEach(b => b.classList.toggle("on", b === button));
    button.value = sign;
    order(k, sign);
  });
  boxes.forEach(box => box.onchange = choose);
}
