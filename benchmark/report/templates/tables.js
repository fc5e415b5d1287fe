// Tables with the class "sortable" are sorted by a click on a heading, and long ones have a search field; code blocks with
// the attribute "data-file" can be copied and saved.  The page can be read without scripts.
"use strict";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter(child => child !== null));
  return made;
}

function save(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function copy(text, button) {
  const tell = word => { button.textContent = word; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
  const written = navigator.clipboard ? navigator.clipboard.writeText(text) : Promise.reject();
  written.then(() => tell("Copied"), () => tell("Select the text instead"));
}

function codeBlock(text, file) {
  const button = element("button", { type: "button", class: "small" }, "Copy");
  button.addEventListener("click", () => copy(text, button));
  const buttons = element("p", { class: "buttons" }, button);
  if (file) {
    const other = element("button", { type: "button", class: "small" }, "Save " + file);
    other.addEventListener("click", () => save(file, text));
    buttons.append(other);
  }
  return buttons;
}

function matches(text, query) {
  const words = query.toLowerCase().split(/\s+/);
  return words.every(word => text.toLowerCase().includes(word));
}

function searchField(label, count, onChange) {
  const field = element("input", { type: "search", placeholder: "Search", "aria-label": label });
  field.addEventListener("input", () => onChange(field.value));
  return element("p", { class: "search" }, field, count);
}

// Returns which way a click on a heading sorts: downwards first, names upwards first.
function sortHeading(heads, head, isName) {
  const up = head.getAttribute("aria-sort") === "descending" || (isName && !head.hasAttribute("aria-sort"));
  heads.forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  return up;
}

function compareValues(a, b, up) {
  if (a === "" || b === "") return (a === "") - (b === "");  // unknown values come last
  const [x, y] = [Number(a), Number(b)];
  const order = isNaN(x) || isNaN(y) ? String(a).localeCompare(String(b)) : x - y;
  return up ? order : -order;
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = element("button", { type: "button", title: "sort" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = sortHeading(heads, head, place === 0);
      const value = row => row.cells[place].dataset.v ?? row.cells[place].textContent.trim();
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter(row => !row.classList.contains("group"));
        body.append(...rows.sort((a, b) => compareValues(value(a), value(b), up)));
      }
    });
  });
  const rows = [...table.tBodies].flatMap(body => [...body.rows]);
  if (rows.length < 8) continue;
  const count = element("span", { class: "soft", "aria-live": "polite" });
  const field = searchField("Search " + (table.caption?.textContent ?? "the table"), count, query => {
    for (const row of rows) row.hidden = !matches(row.textContent, query);
    const shown = rows.filter(row => !row.hidden).length;
    count.textContent = query ? `${shown} of ${rows.length} rows` : "";
  });
  (table.closest(".scroll") ?? table).before(field);
}

for (const block of document.querySelectorAll("pre[data-file]")) {
  block.before(codeBlock(block.textContent, block.dataset.file));
}
