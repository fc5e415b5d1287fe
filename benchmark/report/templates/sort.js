// Makes tables with the class "sortable" sortable by a click on a heading; the page can be read without it.
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
