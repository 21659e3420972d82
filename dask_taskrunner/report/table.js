// The table of task runs: sorted, filtered, a page at a time, each row with its details.
const table = (data, seek) => {
  const PAGE = 100, PRINTED = 2000;
  // What took no time is not worth a word.
  const part = (n) => (row) => row[8] && row[8][n] >= 0.0005 ? row[8][n] : null;
  const ALL = [
    ["task run", (r) => r[0]], ["task", (r) => data.names[r[1]]], ["state", (r) => data.states[r[2]]],
    ["attempts", (r) => r[4]], ["ready", (r) => r[5], time], ["ended", (r) => r[6], time],
    ["running", part(0), time], ["retry delay", part(1), time], ["queued", part(2), time], ["fetching", part(3), time], ["sending", part(4), time],
    ["slack", (r) => r[10], time], ["result", (r) => r[9] || null, size], ["worker", (r) => data.texts[r[7]]], ["message", (r) => data.texts[r[3]]],
  ];
  // A column in which nothing stands is no help; the first three are there always.
  const COLUMNS = ALL.filter(([, value], n) => n < 3 || data.rows.some((row) => { const found = value(row); return found != null && found !== ""; }));
  const TELLS = {
    ready: "when all that it waited for had ended, from the start of the run", ended: "from the start of the run",
    fetching: "inputs from other workers", sending: "and scheduling: what was neither running, nor waiting, nor fetching", slack: "by how much later it could have ended without the run ending later",
  };
  const search = byId("filter"), states = byId("state"), head = document.querySelector("#runs thead"), body = document.querySelector("#runs tbody");
  let order = null, down = false, from = 0, most = PAGE, shown = [];
  data.states.forEach((state) => states.append(make("option", state, { value: state })));
  const texts = data.rows.map((r) => [r[0], data.names[r[1]], data.states[r[2]], data.texts[r[3]], data.texts[r[7]]].join("\n").toLowerCase());
  const select = () => {
    const words = search.value.toLowerCase(), state = states.value;
    shown = data.rows.map((_, n) => n).filter((n) => texts[n].includes(words) && (!state || data.states[data.rows[n][2]] === state));
    if (order == null) return;
    const value = COLUMNS[order][1], sign = down ? -1 : 1;
    const compare = new Intl.Collator(undefined, { numeric: true }).compare;
    shown.sort((a, b) => {
      const x = value(data.rows[a]), y = value(data.rows[b]);
      if (x == null || y == null) return (x == null) - (y == null);
      return sign * (typeof x === "string" ? compare(x, y) : x - y);
    });
  };

  // --- a row that is opened ---
  const attempt = ([outcome, worker, error, took], n) => {
    const after = took == null ? "" : ` after ${time(took)}`;
    return `attempt ${n + 1}: ${data.outcomes[outcome]}${after} on ${data.texts[worker] || "(not known which worker)"} ${data.texts[error]}`;
  };
  const told = (own) => [
    ["inputs of the attempt that failed", own.inputs && Object.entries(own.inputs).map(([name, line]) => `${name}=${line}`).join("\n")],
    ["attempts", own.attempts && own.attempts.map(attempt).join("\n")], ["traceback", own.traceback], ["log", own.logs && own.logs.join("\n")],
  ].filter(([, text]) => text);
  const toggle = (n, line) => {
    const next = line.nextSibling, opens = !(next && next.className === "details"), button = line.querySelector("button");
    button.ariaExpanded = String(opens);
    button.firstChild.textContent = opens ? "▾ " : "▸ ";
    if (!opens) { next.remove(); return; }
    const cell = make("td", null, { colSpan: COLUMNS.length }), details = make("tr", null, { className: "details" });
    told(data.details[n]).forEach(([name, text]) => cell.append(make("div", name, { className: "quiet" }), make("pre", text)));
    details.append(cell); line.after(details);
  };

  // --- drawing ---
  const heads = () => {
    const line = make("tr");
    COLUMNS.forEach(([name], n) => {
      const cell = make("th", null, { scope: "col", ariaSort: order !== n ? "none" : down ? "descending" : "ascending" });
      const button = make("button", name + (order === n ? (down ? " ▾" : " ▴") : ""), { title: TELLS[name] || "" });
      button.addEventListener("click", () => {
        down = order === n && !down; order = n; show(0);
        // The button that had the focus is another one now.
        head.querySelectorAll("button")[n].focus();
      });
      cell.append(button); line.append(cell);
    });
    head.replaceChildren(line);
  };
  const lineOf = (n) => {
    const row = data.rows[n], line = make("tr"), opens = !!data.details[n];
    COLUMNS.forEach(([name, value, format], column) => {
      const raw = value(row), cell = make("td", null, { className: format || typeof raw === "number" ? "n" : name });
      const text = format ? format(raw) : raw;
      if (column === 0) {
        const button = make("button", null, { title: opens ? "details" : "find it in the timeline" });
        button.append(opens ? "▸ " : "", text);
        if (opens) button.ariaExpanded = "false";
        button.addEventListener("click", (event) => { event.stopPropagation(); if (opens) toggle(n, line); seek(n); });
        cell.append(button);
      } else cell.append(text ?? "");
      if (name === "state") { const dot = make("i"); dot.style.background = data.colors[raw] || "#999"; cell.prepend(dot); }
      line.append(cell);
    });
    if (opens) {
      line.className = "more";
      // Who marks a text to copy it does not want it closed.
      line.addEventListener("click", () => { if (!String(getSelection())) { toggle(n, line); seek(n); } });
    }
    return line;
  };
  const show = (first) => {
    if (first != null) { from = first; select(); }
    from = Math.max(0, Math.min(from, Math.floor((shown.length - 1) / PAGE) * PAGE));
    byId("count").textContent = shown.length ? `${from + 1} to ${Math.min(from + most, shown.length)} of ${shown.length}` : "none";
    byId("before").disabled = from === 0;
    byId("after").disabled = from + PAGE >= shown.length;
    heads();
    body.replaceChildren(...shown.slice(from, from + most).map(lineOf));
  };
  search.addEventListener("input", () => show(0));
  states.addEventListener("change", () => show(0));
  byId("before").addEventListener("click", () => { from -= PAGE; show(); });
  byId("after").addEventListener("click", () => { from += PAGE; show(); });
  // On paper there is nothing to click on.
  window.addEventListener("beforeprint", () => { most = PRINTED; show(0); });
  window.addEventListener("afterprint", () => { most = PAGE; show(0); });
  show(0);
  return {
    // Shows one task run, by its slug, and opens it.
    find: (slug) => {
      search.value = slug; states.value = ""; show(0);
      const n = shown.find((one) => data.rows[one][0] === slug), at = shown.indexOf(n);
      if (n == null) return;
      from = Math.floor(at / PAGE) * PAGE; show();
      const line = body.children[at - from], button = line.querySelector("button");
      if (data.details[n]) toggle(n, line);
      line.scrollIntoView({ block: "center" });
      button.focus({ preventScroll: true });
    },
  };
};
