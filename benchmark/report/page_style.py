"""The look of the page, and the one script on it, which sorts tables and is not needed to read them."""

from __future__ import annotations

__all__ = ["SCRIPT", "STYLE"]

# Colours after Okabe and Ito, which everyone can tell apart; darker or lighter here and there for enough contrast.
STYLE = """
:root { color-scheme: light dark;
  --paper: #fdfdfb; --ink: #1d2126; --soft: #5a6270; --line: #dcdfe3; --wash: #f2f3f1; --accent: #0068a5;
  --bad: #b3400a; --cell: #eceff4; --edge: #4d4d4d; --dead: #a9a9a9; --node: #222; --shine: .62;
  --s0: #0072b2; --s1: #d55e00; --s2: #00906a; --s3: #b8578f; --s4: #a87400; --s5: #3a93c9; --s6: #6b55b5;
  --s7: #69707c }
@media (prefers-color-scheme: dark) { :root {
  --paper: #15181c; --ink: #e4e6e8; --soft: #a0a8b3; --line: #343a42; --wash: #1e2329; --accent: #6cb8ee;
  --bad: #ff9a5c; --cell: #242a32; --edge: #b3b8bf; --dead: #646a73; --node: #c6cad0; --shine: .8;
  --s0: #4fa9e6; --s1: #ff8a3d; --s2: #2fc398; --s3: #e495c3; --s4: #e8b23a; --s5: #9bd3f5; --s6: #b4a2f0;
  --s7: #aab1bb } }

* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0 auto; padding: 2.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 82rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word }
h1, h2, h3, h4 { line-height: 1.2; text-wrap: balance; font-weight: 650; letter-spacing: -0.01em }
h1 { font-size: clamp(1.7rem, 1.2rem + 2vw, 2.5rem); margin: 0 0 .6rem }
h2 { font-size: 1.4rem; margin: 0 0 .5rem }
h3 { font-size: 1.08rem; margin: 1.8rem 0 .6rem }
h4 { font-size: .95rem; margin: 1rem 0 .35rem; font-weight: 600 }
section { margin-top: 3rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }
p, ul, dl { max-width: 46rem; margin: .5rem 0 }
li { margin: .2rem 0 }
a { color: var(--accent) }
.lede { font-size: 1.13rem; line-height: 1.5 }
.soft, figcaption { color: var(--soft); font-size: .92rem }
nav ul { display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; list-style: none; padding: 0; margin: 1.2rem 0 0;
  max-width: none; font-size: .95rem }
.notes { border-left: 3px solid var(--bad); padding: 0 0 0 1rem; margin: 1.4rem 0 0; max-width: 62rem }
.notes h3 { margin: 0 0 .4rem }
.notes ul { padding-left: 1.1rem; max-width: none; margin: 0 }

.scroll { overflow-x: auto; margin: 1rem 0; max-width: 100% }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; white-space: nowrap }
th, td { padding: .5rem .95rem .5rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--ink); font-weight: 600; white-space: nowrap }
thead th small, td small { display: block; font-weight: 400; color: var(--soft); font-size: .88em; line-height: 1.4 }
tbody th { font-weight: 600; min-width: 6.5rem; max-width: 14rem }
.board td, .runs td, .nowrap { white-space: nowrap }
.board tbody th, .board thead th:first-child { position: sticky; left: 0; z-index: 1; background: var(--paper) }
.board .group th { color: var(--soft); font-weight: 400; padding-top: 1.4rem }
.best { font-weight: 700; text-decoration: underline; text-underline-offset: .22em; text-decoration-thickness: 2px;
  text-decoration-color: var(--accent) }
.bad, td small.bad { color: var(--bad); font-weight: 600 }
.se, .pair span { color: var(--soft) }
.pair { display: flex; justify-content: space-between; gap: .6rem }
.pair .bad { color: var(--bad) }
.reason { min-width: 16rem; max-width: 42rem; overflow-wrap: anywhere }
.runs td, .runs tbody th { padding-top: .28rem; padding-bottom: .28rem }
th button { all: unset; cursor: pointer; font: inherit }
th button:focus-visible { outline: 2px solid var(--accent) }
th[aria-sort=descending] button::after { content: " \\2193" }
th[aria-sort=ascending] button::after { content: " \\2191" }
.wins td, .wins th { padding: .4rem .6rem; vertical-align: middle }
.wins td { min-width: 4.2rem; text-align: center; border: 1px solid var(--line);
  background: color-mix(in srgb, var(--accent) calc(var(--w, 0) * 45%), transparent) }
.wins thead td { border: 0 }
.wins th { padding-left: 0; min-width: 0; border: 0; font-size: .94em; line-height: 1.3 }
.wins thead th { padding-left: .6rem; white-space: normal; vertical-align: bottom; text-align: center; max-width: 8rem }

figure { margin: 1.2rem 0 0 }
figcaption { max-width: 46rem; margin-bottom: .6rem }
.grid-of { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18.5rem), 1fr)); gap: 1.6rem 2rem }
.grid-of > * { min-width: 0; margin: 0 }
.grid-of h4 { margin-top: 0 }
p + .grid-of { margin-top: 1.2rem }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)) }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; margin: .6rem 0 1rem;
  max-width: none; font-size: .92rem }
.legend li { display: flex; align-items: center; gap: .4rem; margin: 0 }
svg { display: block; width: 100%; height: auto }
svg.key { width: 1.05rem; height: 1.05rem; flex: none; overflow: visible }
svg.shapes { position: absolute; width: 0; height: 0 }
svg text { fill: var(--ink); font-size: 11px; font-variant-numeric: tabular-nums }
svg .title { font-size: 13px; font-weight: 600 }
svg .tick, svg .axis { fill: var(--soft) }
svg .name, svg .none { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round }
svg .name { font-size: 11.5px }
svg .none { fill: var(--bad) }
svg path { fill: none }
.grid { stroke: var(--line) }
.base { stroke: var(--soft) }
.chance { stroke: var(--soft); stroke-dasharray: 2 4 }
.points { opacity: var(--shine) }
.box { stroke: var(--ink); stroke-width: 4; opacity: .38 }
.median { stroke: var(--ink); stroke-width: 2.5 }
svg .s0 { fill: var(--s0); stroke: var(--s0) } svg .s1 { fill: var(--s1); stroke: var(--s1) }
svg .s2 { fill: var(--s2); stroke: var(--s2) } svg .s3 { fill: var(--s3); stroke: var(--s3) }
svg .s4 { fill: var(--s4); stroke: var(--s4) } svg .s5 { fill: var(--s5); stroke: var(--s5) }
svg .s6 { fill: var(--s6); stroke: var(--s6) } svg .s7 { fill: var(--s7); stroke: var(--s7) }
svg .points, svg .solid { stroke: none }
svg .dots { fill: none; stroke-linecap: round }
svg .s0.dots { stroke: var(--s0) } svg .s1.dots { stroke: var(--s1) } svg .s2.dots { stroke: var(--s2) }
svg .s3.dots { stroke: var(--s3) } svg .s4.dots { stroke: var(--s4) } svg .s5.dots { stroke: var(--s5) }
svg .s6.dots { stroke: var(--s6) } svg .s7.dots { stroke: var(--s7) }
svg path.cell { fill: var(--cell) }
.edge { stroke: var(--edge); stroke-width: 1.3 }
.edge.dead { stroke: var(--dead); stroke-dasharray: 4 3 }
.node { stroke: var(--node); stroke-width: 1 }
.node path { stroke: #222 }

pre { background: var(--wash); padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; line-height: 1.6;
  border-radius: 4px }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .92em }
dt { font-weight: 600; margin-top: .8rem }
dd { margin: .15rem 0 0 }
details { margin: 1rem 0 }
summary { cursor: pointer; color: var(--accent) }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line) }

@media (max-width: 30rem) {
  body { padding-top: 1.5rem }
  tbody th { min-width: 5.5rem; max-width: 8rem }
  section { margin-top: 2.2rem }
}
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --wash: #f4f4f4; --accent: #004a77; --bad: #8a2f00;
    --cell: #eceff4; --edge: #4d4d4d; --dead: #a9a9a9; --node: #222; --shine: .62;
    --s0: #0072b2; --s1: #d55e00; --s2: #00906a; --s3: #b8578f; --s4: #a87400; --s5: #3a93c9; --s6: #6b55b5;
  --s7: #69707c }
  body { max-width: none; padding: 0; font-size: 10pt }
  nav { display: none }
  .scroll { overflow: visible }
  table { font-size: 7.5pt }
  th, td { padding: .3rem .5rem .3rem 0 }
  tbody th { min-width: 0 }
  .board tbody th, .board thead th:first-child { position: static }
  .board td, .runs td, thead th { white-space: normal }
  pre { white-space: pre-wrap }
  .panel, .net, tr, .wins, .grid-of > * { break-inside: avoid }
  h2, h3, h4, figcaption { break-after: avoid }
  .grid-of { grid-template-columns: repeat(3, 1fr); gap: .8rem 1rem }
  .wide { grid-template-columns: repeat(2, 1fr) }
  .wins td { min-width: 0 }
}
""".strip()

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending" || (place === 0 && !head.hasAttribute("aria-sort"));
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = row => row.cells[place].dataset.v ?? row.cells[place].textContent;
      const compare = (a, b) => {
        const [x, y] = [Number(value(a)), Number(value(b))];
        if (value(a) === "" || value(b) === "") return (value(a) === "") - (value(b) === "");
        const order = isNaN(x) || isNaN(y) ? value(a).localeCompare(value(b)) : x - y;
        return up ? order : -order;
      };
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter(row => !row.classList.contains("group"));
        body.append(...rows.sort(compare));
      }
    });
  });
}
""".strip()
