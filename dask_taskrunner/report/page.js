"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const make = (tag, text, more) => Object.assign(document.createElement(tag), text == null ? {} : { textContent: text }, more);
  const time = (s) => s == null ? "" : s < 0.9995 ? `${Math.round(s * 1000)} ms` : s < 100 ? `${s.toFixed(1)} s`
    : s < 3600 ? `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s` : `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  const size = (n) => !n ? "" : n < 1000 ? `${n} B` : n < 1e6 ? `${(n / 1e3).toFixed(1)} kB` : n < 1e9 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e9).toFixed(2)} GB`;
  // Neighbors on the wheel of colors are never neighbors in the list.
  const hue = (n) => `hsl(${(n * 137.5 + 205) % 360} 52% ${52 + (n % 3) * 8}%)`;
  const BAD = new Set(["failed", "retrying", "timed-out", "crashed", "worker-lost", "cancelled"]);

  // --- the timeline ---
  const LANE = 16, LEFT = 190, TOP = 22;
  const box = document.getElementById("timeline"), canvas = box.querySelector("canvas"), tip = document.getElementById("tip");
  const total = Math.max(data.seconds || 0, ...data.bars.slice(-1).map((b) => b[4]), 0.001);
  const span = data.bars.reduce((most, bar) => Math.max(most, bar[4]), total);
  let scale = 1;
  const draw = () => {
    const wide = Math.max(box.clientWidth - 2, LEFT + 200), high = TOP + data.lanes.length * LANE + 4;
    const ratio = window.devicePixelRatio || 1, paint = canvas.getContext("2d");
    canvas.width = wide * ratio; canvas.height = high * ratio;
    canvas.style.width = `${wide}px`; canvas.style.height = `${high}px`;
    paint.scale(ratio, ratio);
    scale = (wide - LEFT - 20) / span;
    const text = getComputedStyle(document.body).color;
    paint.font = "11px system-ui, sans-serif"; paint.fillStyle = text; paint.strokeStyle = text;
    const step = 10 ** Math.floor(Math.log10(span / 4));
    const wanted = [1, 2, 5, 10].map((n) => n * step).find((n) => span / n <= 10) || step;
    for (let at = 0; at <= span; at += wanted) {
      paint.globalAlpha = 0.15; paint.fillRect(LEFT + at * scale, TOP - 4, 1, high - TOP);
      paint.globalAlpha = 0.8; paint.fillText(time(at) || "0", LEFT + at * scale + 2, 12);
    }
    paint.globalAlpha = 0.8;
    data.lanes.forEach((lane, n) => paint.fillText(lane.length > 32 ? `…${lane.slice(-31)}` : lane, 2, TOP + n * LANE + 11, LEFT - 8));
    // What waited lies below what ran meanwhile.
    paint.globalAlpha = 0.5;
    for (const [row, lane, available, started] of data.bars) {
      paint.fillStyle = hue(data.rows[row][1]);
      paint.fillRect(LEFT + available * scale, TOP + lane * LANE + 6, (started - available) * scale, 1);
    }
    for (const [row, lane, , started, ended, outcome] of data.bars) {
      const y = TOP + lane * LANE, x = LEFT + started * scale;
      paint.fillStyle = hue(data.rows[row][1]);
      paint.globalAlpha = 1; paint.fillRect(x, y + 1, Math.max((ended - started) * scale, 1), LANE - 4);
      if (BAD.has(data.outcomes[outcome])) { paint.fillStyle = "#d62728"; paint.fillRect(x, y + LANE - 5, Math.max((ended - started) * scale, 2), 3); }
    }
  };
  const found = (event) => {
    const at = canvas.getBoundingClientRect(), x = (event.clientX - at.left - LEFT) / scale, lane = Math.floor((event.clientY - at.top - TOP) / LANE);
    return data.bars.findLast((bar) => bar[1] === lane && bar[3] - 2 / scale <= x && x <= bar[4] + 2 / scale);
  };
  canvas.addEventListener("mousemove", (event) => {
    const bar = found(event);
    tip.hidden = !bar;
    if (!bar) return;
    const [row, lane, available, started, ended, outcome] = bar;
    tip.textContent = `${data.rows[row][0]}: ${data.outcomes[outcome]}\nbegan after ${time(started) || "0 ms"}, took ${time(ended - started)}\n`
      + `could have begun ${time(started - available) || "0 ms"} before\non ${data.lanes[lane]}`;
    const at = box.getBoundingClientRect();
    tip.style.left = `${Math.min(event.clientX - at.left + 12, box.clientWidth - 240)}px`;
    tip.style.top = `${event.clientY - at.top + box.scrollTop + 14}px`;
  });
  canvas.addEventListener("mouseleave", () => { tip.hidden = true; });
  canvas.addEventListener("click", (event) => { const bar = found(event); if (bar) { search.value = data.rows[bar[0]][0]; show(0); } });
  window.addEventListener("resize", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  data.names.slice(0, 40).forEach((name, n) => {
    const label = make("span", name), dot = make("i");
    dot.style.background = hue(n); label.prepend(dot);
    document.getElementById("legend").append(label);
  });

  // --- the table ---
  const PAGE = 100;
  // What took no time is not worth a word.
  const part = (n) => (row) => row[8] && row[8][n] >= 0.0005 ? row[8][n] : null;
  const COLUMNS = [
    ["task run", (r) => r[0]], ["task", (r) => data.names[r[1]]], ["state", (r) => data.states[r[2]]],
    ["attempts", (r) => r[4]], ["began", (r) => r[5], time], ["ended", (r) => r[6], time],
    ["running", part(0), time], ["retry delay", part(1), time], ["queued", part(2), time], ["fetching", part(3), time], ["sending", part(4), time],
    ["slack", (r) => r[10], time], ["result", (r) => r[9], size], ["worker", (r) => data.texts[r[7]]], ["message", (r) => data.texts[r[3]]],
  ];
  const search = document.getElementById("filter"), states = document.getElementById("state");
  const head = document.querySelector("#runs thead"), body = document.querySelector("#runs tbody");
  let order = null, down = false, from = 0, shown = [];
  data.states.forEach((state) => states.append(make("option", state, { value: state })));
  const texts = data.rows.map((r) => [r[0], data.names[r[1]], data.states[r[2]], data.texts[r[3]], data.texts[r[7]]].join("\n").toLowerCase());
  const select = () => {
    const words = search.value.toLowerCase(), state = states.value;
    shown = data.rows.map((_, n) => n).filter((n) => texts[n].includes(words) && (!state || data.states[data.rows[n][2]] === state));
    if (order == null) return;
    const value = COLUMNS[order][1], sign = down ? -1 : 1;
    shown.sort((a, b) => {
      const x = value(data.rows[a]), y = value(data.rows[b]);
      if (x == null || y == null) return (x == null) - (y == null);
      return sign * (typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y);
    });
  };
  const details = (n, row) => {
    const next = row.nextSibling;
    if (next && next.className === "details") { next.remove(); return; }
    const own = data.details[n], parts = [];
    if (own.inputs) parts.push(Object.entries(own.inputs).map(([k, v]) => `${k}=${v}`).join("\n"));
    if (own.attempts) parts.push(own.attempts.map(([k, outcome, worker, error]) => `attempt ${k}: ${outcome} on ${worker} ${error}`).join("\n"));
    if (own.traceback) parts.push(own.traceback);
    if (own.logs) parts.push(own.logs.join("\n"));
    const cell = make("td", null, { colSpan: COLUMNS.length }), line = make("tr", null, { className: "details" });
    parts.forEach((text) => cell.append(make("pre", text)));
    line.append(cell); row.after(line);
  };
  const show = (first) => {
    if (first != null) { from = first; select(); }
    from = Math.max(0, Math.min(from, Math.floor((shown.length - 1) / PAGE) * PAGE));
    document.getElementById("count").textContent = shown.length ? `${from + 1} to ${Math.min(from + PAGE, shown.length)} of ${shown.length}` : "none";
    head.replaceChildren(make("tr"));
    COLUMNS.forEach(([name], n) => head.firstChild.append(make("th", name + (order === n ? (down ? " ▾" : " ▴") : ""), {
      onclick: () => { down = order === n && !down; order = n; show(0); },
    })));
    body.replaceChildren(...shown.slice(from, from + PAGE).map((n) => {
      const row = data.rows[n], line = make("tr");
      COLUMNS.forEach(([, value, format], column) => {
        const raw = value(row), cell = make("td", format ? format(raw) : raw, { className: format || typeof raw === "number" ? "n" : "" });
        if (column === 2) { const dot = make("i"); dot.style.background = data.colors[raw] || "#999"; cell.prepend(dot); }
        line.append(cell);
      });
      if (data.details[n]) {
        line.className = "more"; line.firstChild.prepend("▸ ");
        line.addEventListener("click", () => details(n, line));
      }
      return line;
    }));
  };
  search.addEventListener("input", () => show(0));
  states.addEventListener("change", () => show(0));
  document.getElementById("before").addEventListener("click", () => { from -= PAGE; show(); });
  document.getElementById("after").addEventListener("click", () => { from += PAGE; show(); });
  show(0);
  draw();
})();
