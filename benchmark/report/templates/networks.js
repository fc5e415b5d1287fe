// Single networks: the table of all rows, tooltips on points of charts, and details of a network.
{
  const source = document.getElementById("network-data");
  const { networks, cells, rows } = JSON.parse(source?.textContent ?? '{"networks":[],"cells":[],"rows":[]}');
  const dialog = document.getElementById("network");
  const tip = document.getElementById("tip");
  const STEP = 50;  // rows that are shown at once

  const CORPUS = ["train", "val", "test", "search", "wide", "deep", "dense", "bnfree", "predefined"];
  const severalImages = new Set(cells.map(cell => cell[2])).size > 1;
  const format = value => value === null ? "\u2013" : value.toLocaleString("en-US");
  const fixed = (value, digits) => value === null ? "\u2013" : value.toFixed(digits);
  const withUnit = (value, cell) => value === null ? "no value" : `${value.toFixed(2)}${cell[4] ? " " + cell[4] : ""}`;
  const nameOf = network => network[2] ? `${network[2]} of ${network[0]}` : `Network ${network[1]} of ${network[0]}`;

  function commandOf(row) {
    const [cell, network] = [cells[row[0]], networks[row[1]]];
    const name = /^[\w.:\/@=+-]+$/.test(network[2]) ? network[2] : `'${network[2].replaceAll("'", "'\\''")}'`;
    return cell[5].replace("{index}", network[1]).replace("{name}", () => name);
  }

  function pictureOf(network) {
    const key = `[data-picture="${CSS.escape(network[0])}/${network[1]}"]`;
    const found = document.querySelector("main " + key) ?? document.getElementById("pictures").content.querySelector(key);
    if (!found) return null;
    const picture = found.cloneNode(true);
    picture.setAttribute("aria-label", picture.querySelector("title").textContent);
    for (const name of ["aria-labelledby", "data-picture"]) picture.removeAttribute(name);
    for (const named of picture.querySelectorAll("[id]")) named.removeAttribute("id");
    picture.querySelector(":scope > title").remove();  // the titles of nodes are tooltips
    return picture;
  }

  // --- details of a network ---

  function show(number) {
    const network = networks[number];
    const own = rows.filter(row => row[1] === number);
    document.getElementById("network-title").textContent = nameOf(network);
    const [, index, , nodes, parameters, depth] = network;
    const facts = `${format(parameters)} parameters, ${format(nodes)} nodes, depth ${format(depth)}.`;
    const heads = ["predictor", "value", "seconds"].map(text => element("th", { scope: "col" }, text));
    const lines = own.map(row => {
      const cell = cells[row[0]];
      const about = [cell[3], ...(severalImages ? [cell[2]] : []), ...(cell[1] === network[0] ? [] : [cell[1]])].join(", ");
      const value = element("td", {}, row[4] ? "" : withUnit(row[2], cell), element("small", {}, about));
      if (row[4]) value.append(element("small", { class: "bad" }, "failed: " + row[4]));
      return element("tr", {}, element("th", { scope: "row" }, cell[0]), value, element("td", {}, fixed(row[3], 1)));
    });
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...lines));
    const block = text => [codeBlock(text), element("pre", {}, element("code", {}, text))];
    const commands = [...new Set(own.map(commandOf))].join("\n");
    const picture = pictureOf(network);
    const draw = `deepnets draw --out network.svg --split ${network[0]} --index ${index}`;
    document.getElementById("network-details").replaceChildren(
      element("p", {}, facts), element("div", { class: "scroll" }, table),
      ...(picture ? [picture] : CORPUS.includes(network[0]) ? [element("h4", {}, "Draw it"), ...block(draw)] : []),
      element("h4", {}, "Evaluate it again"), ...block(commands));
    dialog.showModal();
    dialog.scrollTop = 0;
  }

  if (dialog) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
  }

  // --- tooltips on points ---

  function describe(number) {
    const row = rows[number], cell = cells[row[0]], network = networks[row[1]];
    const first = element("strong", {}, nameOf(network));
    return [first, `${cell[0]}: ${withUnit(row[2], cell)}`, `${format(network[4])} parameters, depth ${format(network[5])}`,
      `${fixed(row[3], 1)} s`].flatMap((line, place) => place ? [element("br"), line] : [line]);
  }

  const REACH = 14;  // distance to the nearest point in pixels
  for (const chart of document.querySelectorAll("svg.chart")) {
    let points = null, current = null;
    const nearest = event => {
      points ??= [...chart.querySelectorAll("use[data-r]")].map(use =>
        ({ use, x: Number(use.getAttribute("x")), y: Number(use.getAttribute("y")) }));
      const box = chart.getBoundingClientRect(), scale = chart.viewBox.baseVal.width / box.width;
      const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
      let found = null, least = REACH * scale;
      for (const point of points) {
        const distance = Math.hypot(point.x - x, point.y - y);
        if (distance < least) [found, least] = [point, distance];
      }
      return found?.use ?? null;
    };
    const mark = use => {
      if (use === current) return;
      current?.classList.remove("on");
      current = use;
      current?.classList.add("on");
      chart.classList.toggle("near", current !== null);
      tip.hidden = current === null;
      if (current) tip.replaceChildren(...describe(Number(current.dataset.r)));
    };
    chart.addEventListener("pointermove", event => {
      mark(nearest(event));
      if (tip.hidden) return;
      const left = Math.min(event.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 6);
      const below = event.clientY + 18 + tip.offsetHeight < window.innerHeight;
      tip.style.left = `${Math.max(6, left)}px`;
      tip.style.top = `${below ? event.clientY + 18 : event.clientY - tip.offsetHeight - 10}px`;
    });
    chart.addEventListener("pointerleave", () => mark(null));
    chart.addEventListener("click", event => {
      const use = nearest(event);
      mark(null);
      if (use) show(rows[Number(use.dataset.r)][1]);
    });
  }
  window.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // --- the table of all rows ---

  const COLUMNS = [
    ["network", row => networks[row[1]][2] || networks[row[1]][1]],
    ["split", row => cells[row[0]][1]],
    ["predictor", row => cells[row[0]][0]],
    ...(severalImages ? [["images", row => cells[row[0]][2]]] : []),
    [new Set(cells.map(cell => cell[3])).size === 1 ? cells[0][3] : "value", row => row[2]],
    ["parameters", row => networks[row[1]][4]],
    ["nodes", row => networks[row[1]][3]],
    ["depth", row => networks[row[1]][5]],
    ["seconds", row => row[3]],
    ...(rows.some(row => row[4]) ? [["failure", row => row[4]]] : []),
  ];
  const WHOLE = new Set(["parameters", "nodes", "depth"]);
  const digits = name => name === "seconds" ? 1 : 2;
  const place = document.getElementById("rows");
  if (place && rows.length) {
    const texts = rows.map(row => COLUMNS.map(([, value]) => value(row) ?? "").join(" ") + (row[4] ? " failed" : " ok"));
    let order = rows.map((_, number) => number), selected = order, limit = STEP;
    const body = element("tbody"), count = element("span", { class: "soft", "aria-live": "polite" });
    const more = element("button", { type: "button" }, "Show more rows");
    const cellOf = (row, name, value) => {
      if (name !== "network") return element("td", name === "failure" ? { class: "reason" } : {},
        typeof value !== "number" ? value ?? "\u2013" : WHOLE.has(name) ? format(value) : value.toFixed(digits(name)));
      const button = element("button", { type: "button", class: "link" }, String(value));
      button.addEventListener("click", () => show(row[1]));
      return element("th", { scope: "row" }, button);
    };
    const update = () => {
      const shown = selected.slice(0, limit).map(number => rows[number]);
      body.replaceChildren(...shown.map(row =>
        element("tr", {}, ...COLUMNS.map(([name, value]) => cellOf(row, name, value(row))))));
      count.textContent = `${shown.length} of ${selected.length.toLocaleString("en-US")} rows`;
      more.hidden = shown.length === selected.length;
    };
    const search = query => {
      selected = order.filter(number => matches(texts[number], query));
      limit = STEP;
      update();
    };
    const heads = COLUMNS.map(([name]) => element("th", { scope: "col" }, element("button", { type: "button" }, name)));
    const field = searchField("Search networks, such as: deep ghn2 failed", count, search);
    heads.forEach((head, at) => head.firstChild.addEventListener("click", () => {
      const value = COLUMNS[at][1];
      const up = sortHeading(heads, head, ["network", "split", "predictor", "images"].includes(COLUMNS[at][0]));
      order = [...order].sort((a, b) => compareValues(value(rows[a]) ?? "", value(rows[b]) ?? "", up));
      search(field.firstChild.value);
    }));
    more.addEventListener("click", () => { limit += 4 * STEP; update(); });
    const saved = element("button", { type: "button" }, "Save these rows as CSV");
    saved.addEventListener("click", () => {
      const safe = value => /^[=+\-@\t\r]/.test(value) && isNaN(value) ? "'" + value : value;  // spreadsheets run formulas
      const quoted = value => `"${safe(String(value ?? "")).replaceAll('"', '""')}"`;
      const lines = [COLUMNS.map(([name]) => name), ...selected.map(n => COLUMNS.map(([, value]) => value(rows[n])))];
      save("rows.csv", lines.map(line => line.map(quoted).join(",") + "\n").join(""));
    });
    const table = element("table", { class: "rows" }, element("thead", {}, element("tr", {}, ...heads)), body);
    const region = { class: "scroll", role: "region", tabindex: "0", "aria-label": "All networks" };
    place.replaceChildren(field, element("div", region, table), element("p", { class: "buttons" }, more, saved));
    update();
  }
}
