"use strict";

// Figures are drawn when they come into view, so that a page of hundreds opens at once.
function draw(box) {
  if (box.dataset.drawn) return;
  box.dataset.drawn = "yes";
  const figure = JSON.parse(box.querySelector("script").textContent);
  Plotly.newPlot(box.querySelector(".plot"), figure.data, figure.layout, {
    responsive: true,
    displaylogo: false,
    displayModeBar: false,
  });
}

const boxes = document.querySelectorAll("figure[data-plot]");
const watcher = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
  { rootMargin: "600px" }
);
boxes.forEach((box) => watcher.observe(box));

addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not(.long)").forEach((part) => (part.open = true));
  boxes.forEach((box) => box.closest("details:not([open])") || draw(box));
});

// Sorting: numbers fall, texts rise on the first press; lines without a value stay at the end.
function sortBy(header) {
  const table = header.closest("table");
  const column = header.cellIndex;
  const isNumber = header.classList.contains("number");
  const before = header.getAttribute("aria-sort");
  const rising = before === null ? !isNumber : before === "descending";
  const key = (line) => line.cells[column].dataset.sort;
  const body = table.tBodies[0];
  const lines = Array.from(body.rows).sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const order = isNumber ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true });
    return rising ? order : -order;
  });
  body.append(...lines);
  table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", rising ? "ascending" : "descending");
}

document.querySelectorAll("th button").forEach((button) => {
  button.addEventListener("click", () => sortBy(button.closest("th")));
});
