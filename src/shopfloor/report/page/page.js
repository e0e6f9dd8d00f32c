"use strict";

// Figures are drawn when they come into view, so that a page of hundreds opens at once.
const boxes = Array.from(document.querySelectorAll("figure[data-plot]"));
const looks = JSON.parse(document.getElementById("looks")?.textContent ?? "{}");
const darkness = matchMedia("(prefers-color-scheme: dark)");
const views = new Map();
let isPrinting = false;

function draw(box) {
  const plot = box.querySelector(".plot");
  const spec = JSON.parse(box.querySelector("script").textContent);
  const look = darkness.matches && !isPrinting ? looks.dark : looks.light;
  const columns = Math.max(1, Math.floor(plot.clientWidth / (spec.usermeta?.legendColumn ?? 150)));
  spec.config = { ...look, padding: 4, background: "transparent", legend: { ...look.legend, columns } };
  spec.config.font = "system-ui, -apple-system, Segoe UI, Roboto, sans-serif";
  views.get(box)?.finalize();
  // ast: expressions are interpreted, so that the policy of this page need not allow eval.
  const options = { mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
  const drawn = vegaEmbed(plot, spec, options).then((result) => {
    views.set(box, result.view);
    return fit(box);
  });
  drawn.catch((error) => console.error(error));
}

// The panels of a figure get the width that axes, names and margins leave.
function fit(box, triesLeft = 3) {
  const plot = box.querySelector(".plot");
  const view = views.get(box);
  const svg = () => view.container().querySelector("svg").width.baseVal.value;
  const widths = view.getState({ signals: (name) => /^(width|childWidth|concat_\d+_width)$/.test(name) }).signals;
  const panel = Math.max(...Object.values(widths).filter((width) => width > 0));
  const width = Math.max(120, Math.floor(panel + plot.clientWidth - svg()));
  Object.keys(widths).forEach((name) => view.signal(name, width));
  return view.runAsync().then(() => {
    plot.style.minHeight = "";
    return svg() > plot.clientWidth && triesLeft && width > 120 ? fit(box, triesLeft - 1) : undefined;
  });
}

const watcher = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting && !views.has(entry.target)).forEach((entry) => draw(entry.target)),
  { rootMargin: "600px" }
);
boxes.forEach((box) => watcher.observe(box));

const redraw = () => views.forEach((_, box) => draw(box));
darkness.addEventListener("change", redraw);

let waiting;
let pageWidth = document.documentElement.clientWidth;
addEventListener("resize", () => {
  if (pageWidth === document.documentElement.clientWidth) return;
  pageWidth = document.documentElement.clientWidth;
  clearTimeout(waiting);
  waiting = setTimeout(redraw, 200);
});

addEventListener("beforeprint", () => {
  isPrinting = true;
  document.querySelectorAll("details:not(.long)").forEach((part) => (part.open = true));
  boxes.forEach((box) => box.closest("details:not([open])") || draw(box));
});
addEventListener("afterprint", () => {
  isPrinting = false;
  redraw();
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
