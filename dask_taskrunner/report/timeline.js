// The timeline: which part of it is seen, which bar is picked, and what a person does to it.
const timeline = (data, find) => {
  if (!data.bars.length) { byId("times").replaceChildren(make("p", "No body of a task is known to have run.")); return { pick: () => false }; }
  const box = byId("timeline"), canvas = byId("lanes"), strip = byId("overview"), tip = byId("tip"), stage = byId("stage");
  const bars = toBars(data), path = new Set(data.path);
  const ends = bars.reduce((most, bar) => Math.max(most, bar.ended), data.seconds || 0), span = Math.max(ends, 0.001) * 1.005;
  const least = Math.max(span / 1e6, 1e-4);
  const kinds = { thread: lanesByThread(data, bars), run: null };
  let lanes = kinds.thread, from = 0, to = span, picked = null, onPath = false, choosing = null, colors = theme(), waiting = false;
  const only = new Set(), most = mostAtATime(bars);

  const fetching = ({ fetched }, from = 0) => fetched.reduce((sum, at, n) => n % 2 ? sum + Math.max(0, at - Math.max(from, fetched[n - 1])) : sum, 0);
  const describe = (bar) => {
    const row = data.rows[bar.row], part = (from, to, words) => to - from >= 0.00005 ? `\n${time(to - from)} ${words}` : "";
    const does = bar.outcome !== "running" ? "took" : data.goes_on ? "has been running for" : "ran on when the run had ended, after";
    return `${row[0]}: ${bar.outcome}, began ${time(bar.started) || "0 ms"} after the start, ${does} ${time(bar.ended - bar.started)}`
      + part(bar.since, bar.available, "waiting for a retry or an approval before") + part(bar.available, bar.placed, "waiting for a place on a worker")
      + part(0, fetching(bar), "fetching inputs from other workers") + part(0, bar.started - bar.placed - fetching(bar, bar.placed), "sending and scheduling") + `\non ${data.lanes[bar.lane]}`;
  };

  // --- what is seen ---
  const view = () => {
    const width = Math.max(box.clientWidth, 320), left = Math.min(200, Math.round(width * 0.22)), right = width - 12, scale = (right - left) / (to - from);
    return {
      width, left, right, scale, from, to, span, most, lanes, picked, choosing, height: between(TOP + LANE, TOP + lanes.length * LANE + 2, 540), scrolled: box.scrollTop,
      x: (at) => left + (at - from) * scale, at: (x) => from + (x - left) / scale, name: (bar) => data.rows[bar.row][0],
      isQuiet: (bar) => only.size > 0 && !only.has(bar.task), isMarked: (bar) => onPath && path.has(bar.row),
    };
  };
  const draw = () => {
    waiting = false;
    const now = view();
    // The canvas stays where it is, and what it shows moves: a canvas for 10,000 lanes there is not.
    byId("spacer").style.height = `${Math.max(0, TOP + lanes.length * LANE + 2 - now.height)}px`;
    now.scrolled = box.scrollTop;
    paintLanes(canvas, now, colors);
    paintStrip(strip, now, colors, bars);
    byId("window").textContent = from <= 0 && to >= span ? "" : `${time(from) || "0 ms"} to ${time(to)}`;
    byId("whole").disabled = byId("further").disabled = from <= 0 && to >= span;
  };
  const later = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };
  const look = (begin, end) => {
    const wide = between(least, end - begin, span);
    from = between(0, begin, span - wide); to = from + wide;
    later();
  };
  const zoom = (factor, at = (from + to) / 2) => look(at - (at - from) * factor, at + (to - at) * factor);
  const pan = (part) => look(from + (to - from) * part, to + (to - from) * part);

  // --- one bar ---
  const pick = (bar, lane) => {
    picked = bar ? { bar, lane } : null;
    byId("picked").textContent = bar ? describe(bar).replaceAll("\n", "; ") : "";
    if (bar) {
      const wide = to - from;
      if (bar.ended - bar.started > wide) look(bar.started, bar.started + wide);
      else if (bar.started < from || bar.ended > to) look((bar.started + bar.ended - wide) / 2, (bar.started + bar.ended + wide) / 2);
      const y = lane * LANE, seen = box.clientHeight - TOP - LANE;
      if (y < box.scrollTop) box.scrollTop = y; else if (y > box.scrollTop + seen) box.scrollTop = y - seen;
    }
    later();
  };
  const markAt = (clientX, clientY) => {
    const now = view(), at = canvas.getBoundingClientRect(), x = clientX - at.left, lane = Math.floor((clientY - at.top - TOP + box.scrollTop) / LANE);
    if (x < now.left || clientY - at.top < TOP || !lanes[lane]) return null;
    const slack = 3 / now.scale, when = now.at(x), { marks } = lanes[lane];
    let best = null;
    for (let n = firstAfter(marks, when - slack); n < marks.length && marks[n].bar.started <= when + slack; n++) {
      const off = Math.max(marks[n].bar.started - when, when - marks[n].bar.ended, 0);
      if (!best || off < best.off) best = { bar: marks[n].bar, lane, off };
    }
    return best;
  };
  const nearest = (lane, at) => {
    const marks = lanes[lane] ? lanes[lane].marks : [];
    const middle = (mark) => Math.abs((mark.bar.started + mark.bar.ended) / 2 - at);
    return marks.reduce((best, mark) => !best || middle(mark) < middle(best) ? mark : best, null);
  };
  const step = (aside, down) => {
    if (!picked) { const first = lanes.findIndex((lane) => lane.marks.length); if (first >= 0) pick(nearest(first, from).bar, first); return; }
    const { bar, lane } = picked;
    if (aside) {
      const { marks } = lanes[lane], next = marks[marks.findIndex((mark) => mark.bar === bar) + aside];
      if (next) pick(next.bar, lane);
    } else {
      for (let n = lane + down; lanes[n]; n += down) {
        const next = nearest(n, (bar.started + bar.ended) / 2);
        if (next) { pick(next.bar, n); return; }
      }
    }
  };

  // --- a person ---
  const KEYS = {
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": () => look(0, span), Home: () => look(0, to - from), End: () => look(span - to + from, span),
    ArrowLeft: (shift) => shift ? pan(-0.25) : step(-1, 0), ArrowRight: (shift) => shift ? pan(0.25) : step(1, 0),
    ArrowUp: (shift) => shift ? box.scrollBy(0, -LANE * 4) : step(0, -1), ArrowDown: (shift) => shift ? box.scrollBy(0, LANE * 4) : step(0, 1),
    Enter: () => { if (picked) find(data.rows[picked.bar.row][0]); }, Escape: () => { pick(null); tip.hidden = true; },
  };
  box.addEventListener("keydown", (event) => {
    const does = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key];
    if (does) { event.preventDefault(); does(event.shiftKey); }
  });
  const buttons = { closer: () => zoom(0.5), further: () => zoom(2), earlier: () => pan(-0.25), later: () => pan(0.25), whole: () => look(0, span) };
  Object.entries(buttons).forEach(([id, does]) => byId(id).addEventListener("click", does));
  const arrange = (kind) => {
    kinds.run = kinds.run || lanesByRun(data, bars);
    lanes = kinds[kind];
    byId("by-thread").setAttribute("aria-pressed", kind === "thread"); byId("by-run").setAttribute("aria-pressed", kind === "run");
    const { bar } = picked || {}, lane = bar ? lanes.findIndex((one) => one.marks.some((mark) => mark.bar === bar)) : 0;
    draw();
    box.scrollTop = 0;
    pick(bar || null, lane);
  };
  byId("by-thread").addEventListener("click", () => arrange("thread"));
  byId("by-run").addEventListener("click", () => arrange("run"));
  byId("on-path").disabled = !bars.some((bar) => path.has(bar.row));
  byId("on-path").addEventListener("click", () => { onPath = !onPath; byId("on-path").setAttribute("aria-pressed", onPath); later(); });

  // A page must be scrolled over a timeline that nobody has touched.
  stage.addEventListener("wheel", (event) => {
    const aside = event.shiftKey && !event.ctrlKey ? event.deltaY || event.deltaX : Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
    const closer = event.ctrlKey || event.metaKey || document.activeElement === box;
    if (!aside && !closer) return;
    event.preventDefault();
    const now = view(), at = now.at(between(now.left, event.clientX - canvas.getBoundingClientRect().left, now.right));
    if (aside) look(from + aside / now.scale, to + aside / now.scale); else zoom(Math.exp(between(-120, event.deltaY, 120) * 0.003), at);
  }, { passive: false });

  const showTip = (event) => {
    const mark = markAt(event.clientX, event.clientY);
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = describe(mark.bar);
    const at = stage.getBoundingClientRect();
    tip.style.left = `${between(0, event.clientX - at.left + 14, Math.max(0, at.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${event.clientY - at.top + 16}px`;
  };
  let grip = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const { left } = canvas.getBoundingClientRect();
    grip = { x: event.clientX, y: event.clientY, from, to, scrolled: box.scrollTop, chooses: event.shiftKey, left, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!grip) { showTip(event); return; }
    const aside = event.clientX - grip.x, now = view();
    grip.moved = grip.moved || Math.abs(aside) + Math.abs(event.clientY - grip.y) > 4;
    if (!grip.moved) return;
    tip.hidden = true;
    if (grip.chooses) { choosing = [grip.x, event.clientX].sort((a, b) => a - b).map((x) => between(now.left, x - grip.left, now.right)); later(); return; }
    canvas.classList.add("moving");
    look(grip.from - aside / now.scale, grip.to - aside / now.scale);
    box.scrollTop = grip.scrolled - (event.clientY - grip.y);
  });
  const letGo = (event) => {
    if (!grip) return;
    const { moved, chooses } = grip, now = view();
    grip = null;
    canvas.classList.remove("moving");
    if (chooses && choosing) { const [begin, end] = choosing.map(now.at); choosing = null; look(begin, end); return; }
    if (moved || event.type === "pointercancel") return;
    const mark = markAt(event.clientX, event.clientY);
    pick(mark ? mark.bar : null, mark ? mark.lane : 0);
  };
  ["pointerup", "pointercancel"].forEach((name) => canvas.addEventListener(name, letGo));
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("dblclick", (event) => { const mark = markAt(event.clientX, event.clientY); if (mark) find(data.rows[mark.bar.row][0]); });

  // In the strip what is seen is moved by its middle; beside it a time is chosen.
  const whenIn = (event) => { const now = view(); return (event.clientX - strip.getBoundingClientRect().left - now.left) / (now.right - now.left) * span; };
  let hold = null;
  strip.addEventListener("pointerdown", (event) => {
    const at = whenIn(event), inside = at >= from && at <= to && to - from < span * 0.999;
    hold = { at, offset: inside ? at - from : null };
    strip.setPointerCapture(event.pointerId);
  });
  strip.addEventListener("pointermove", (event) => {
    if (!hold) return;
    const at = whenIn(event);
    if (hold.offset != null) look(at - hold.offset, at - hold.offset + to - from);
    else { const now = view(), x = (when) => between(now.left, now.left + when / span * (now.right - now.left), now.right); choosing = [hold.at, at].sort((a, b) => a - b).map(x); later(); }
  });
  ["pointerup", "pointercancel"].forEach((name) => strip.addEventListener(name, (event) => {
    if (!hold) return;
    const ends = [hold.at, whenIn(event)].sort((a, b) => a - b), { offset } = hold;
    hold = choosing = null;
    if (offset == null && ends[1] - ends[0] > span / 200) look(...ends);
    else if (offset == null && to - from < span) look(ends[0] - (to - from) / 2, ends[0] + (to - from) / 2);
    else later();
  }));

  box.addEventListener("scroll", later);
  new ResizeObserver(later).observe(stage);
  const repaint = () => { colors = theme(); draw(); };
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  window.matchMedia("print").addEventListener("change", repaint);
  data.names.slice(0, 40).forEach((name, n) => {
    if (!bars.some((bar) => bar.task === n)) return;
    const label = make("button", name, { ariaPressed: "false", title: `only ${name}` }), dot = make("i");
    dot.style.background = hue(n); label.prepend(dot);
    label.addEventListener("click", () => { if (!only.delete(n)) only.add(n); label.ariaPressed = String(only.has(n)); later(); });
    byId("tasks").append(label);
  });
  if (data.names.length > 40) byId("tasks").append(make("span", `and ${data.names.length - 40} more`, { className: "quiet" }));
  const counted = (n, one, more) => n === 1 ? `1 ${one}` : `${n} ${more}`;
  box.setAttribute("aria-label", `timeline: ${counted(bars.length, "attempt", "attempts")} on ${counted(data.lanes.length, "thread", "threads")} of workers, in ${time(ends)}`);
  draw();
  return {
    // Picks the last attempt of a task run, if it had any.
    pick: (row) => { const bar = bars.findLast((one) => one.row === row); if (bar) pick(bar, lanes.findIndex((lane) => lane.marks.some((mark) => mark.bar === bar))); return !!bar; },
  };
};
