// Paints lanes and the strip above them on canvases. It knows what is where, and changes nothing.
const LANE = 20, TOP = 22, STRIP = 46;
const FONT = "11px system-ui, sans-serif";

const prepared = (canvas, width, height) => {
  const ratio = window.devicePixelRatio || 1, paint = canvas.getContext("2d");
  canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  paint.setTransform(ratio, 0, 0, ratio, 0, 0);
  paint.font = FONT;
  return paint;
};

const theme = () => {
  const colors = Object.fromEntries(["text", "back", "soft", "quiet", "line", "bad", "delayed", "queued", "fetching", "overhead", "focus"].map((name) => [name, color(name)]));
  const stripes = document.createElement("canvas"), paint = stripes.getContext("2d");
  stripes.width = stripes.height = 6;
  paint.strokeStyle = colors.delayed; paint.lineWidth = 1.8;
  // Across the corners, too, so that the pieces fit.
  for (const shift of [-6, 0, 6]) { paint.beginPath(); paint.moveTo(shift - 1, 7); paint.lineTo(shift + 7, -1); paint.stroke(); }
  return { ...colors, stripes };
};

const paintAxis = (paint, view, colors) => {
  const span = view.to - view.from, step = 10 ** Math.floor(Math.log10(span)) / 10;
  const every = [1, 2, 5, 10, 20, 50].map((n) => n * step).find((n) => n * view.scale >= 90) || span;
  // As many digits as tell one from the next.
  const digits = between(0, -Math.floor(Math.log10(every) + 1e-9), 6);
  const told = (at) => every >= 60 ? time(at) : at >= 60 ? `${Math.floor(at / 60)}:${(at % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0")}` : `${at.toFixed(digits)} s`;
  for (let n = Math.ceil(view.from / every - 1e-9); n * every <= view.to; n++) {
    const x = view.x(n * every);
    paint.fillStyle = colors.line; paint.fillRect(x, TOP - 5, 1, view.height - TOP + 5);
    paint.fillStyle = colors.quiet; paint.fillText(told(n * every), x + 3, 13);
  }
};

// What a body waited for is told apart by its height as well as by its color.
const paintWait = (paint, view, colors, { bar, from }, y) => {
  const parts = [[bar.since, bar.available, "delayed", 9], [bar.available, bar.placed, "queued", 2], [bar.placed, bar.started, "overhead", 5]];
  // Inputs may come while there is no place yet.
  for (let n = 0; n < bar.fetched.length; n += 2) parts.push([bar.fetched[n], bar.fetched[n + 1], "fetching", 11]);
  for (const [since, until, kind, high] of parts) {
    const x = view.x(Math.max(since, from, view.from)), end = view.x(Math.min(until, view.to));
    if (end - x < 0.7) continue;
    paint.fillStyle = colors[kind];
    if (kind === "delayed") { paint.fillStyle = paint.createPattern(colors.stripes, "repeat"); }
    paint.fillRect(x, y + (LANE - high) / 2, end - x, high);
  }
};

const paintBar = (paint, view, colors, bar, y, x, end) => {
  const wide = Math.max(end - x, 1), high = LANE - 4, bad = BAD.has(bar.outcome);
  paint.globalAlpha = view.isQuiet(bar) ? 0.15 : 1;
  paint.fillStyle = hue(bar.task);
  paint.fillRect(x, y + 2, wide, high);
  if (bar.outcome === "running") {
    paint.fillStyle = colors.back; paint.globalAlpha *= 0.4;
    for (let at = x + 4; at < x + wide; at += 8) paint.fillRect(at, y + 2, Math.min(4, x + wide - at), high);
    paint.globalAlpha = view.isQuiet(bar) ? 0.15 : 1;
  }
  if (bad) {
    paint.fillStyle = colors.bad;
    paint.fillRect(x, y + LANE - 7, Math.max(wide, 2), 5);
    if (wide > 3) { paint.strokeStyle = colors.bad; paint.lineWidth = 1; paint.strokeRect(x + 0.5, y + 2.5, wide - 1, high - 1); }
  }
  const shown = Math.min(x + wide, view.right) - Math.max(x, view.left);
  if (shown > 40) {
    paint.fillStyle = inkOn(bar.task);
    const text = view.name(bar), letters = Math.floor((shown - 8) / 6);
    paint.fillText(text.length > letters ? `${text.slice(0, Math.max(letters - 1, 1))}…` : text, Math.max(x, view.left) + 4, y + 14, shown - 6);
  }
  paint.globalAlpha = 1;
};

const outlined = (paint, view, y, bar, style, width) => {
  const x = between(view.left - 2, view.x(bar.started), view.right + 2), end = between(view.left - 2, view.x(bar.ended), view.right + 2);
  paint.strokeStyle = style; paint.lineWidth = width;
  paint.strokeRect(x - 0.5, y + 1.5, Math.max(end - x, 2) + 1, LANE - 3);
};

// Bars thinner than a point share one: where they are many, it is as strong as the part of it in which something ran.
const thinBars = (paint, view, colors, y, isCrowded) => {
  const faintest = isCrowded ? 0.3 : 1, wide = isCrowded ? 1 : 2;
  let at = -1, part = 0, widest = null, most = -1, bad = false;
  const done = () => {
    if (!widest) return;
    paint.globalAlpha = view.isQuiet(widest) ? 0.12 : faintest + (1 - faintest) * Math.min(part, 1);
    paint.fillStyle = hue(widest.task); paint.fillRect(at, y + 2, wide, LANE - 4);
    paint.globalAlpha = 1;
    if (bad) { paint.fillStyle = colors.bad; paint.fillRect(at, y + LANE - 7, 2, 5); }
    widest = null; part = 0; most = -1; bad = false;
  };
  const add = (bar, x, length) => {
    if (Math.floor(x) !== at) { done(); at = Math.floor(x); }
    part += length; bad = bad || BAD.has(bar.outcome);
    if (length > most) { most = length; widest = bar; }
  };
  return { add, done };
};

const paintLane = (paint, view, colors, lane, y) => {
  const thin = thinBars(paint, view, colors, y, lane.marks.length > (view.right - view.left) / 8);
  for (let n = firstAfter(lane.marks, view.from); n < lane.marks.length && lane.marks[n].from <= view.to; n++) {
    const mark = lane.marks[n], { bar } = mark;
    const x = Math.max(view.x(bar.started), view.left - 2), end = Math.min(view.x(bar.ended), view.right + 2);
    if ((bar.started - mark.from) * view.scale >= 0.7) paintWait(paint, view, colors, mark, y);
    if (bar.started > view.to) continue;
    if (end - x < 1) thin.add(bar, x, end - x);
    else { thin.done(); paintBar(paint, view, colors, bar, y, x, end); }
    if (view.isMarked(bar)) outlined(paint, view, y, bar, colors.text, 2);
  }
  thin.done();
};

const paintLanes = (canvas, view, colors) => {
  const paint = prepared(canvas, view.width, view.height);
  paint.fillStyle = colors.back; paint.fillRect(0, 0, view.width, view.height);
  paintAxis(paint, view, colors);
  const first = Math.max(0, Math.floor(view.scrolled / LANE)), last = Math.min(view.lanes.length, Math.ceil((view.scrolled + view.height) / LANE));
  const at = (n) => TOP + n * LANE - view.scrolled;
  paint.save(); paint.beginPath(); paint.rect(0, TOP, view.width, view.height); paint.clip();
  for (let n = first; n < last; n++) {
    // The threads of a worker stand together.
    paint.fillStyle = colors.line; paint.globalAlpha = view.lanes[n].isLast ? 1 : 0.5; paint.fillRect(0, at(n) + LANE - 0.5, view.width, view.lanes[n].isLast ? 1 : 0.5); paint.globalAlpha = 1;
    const label = view.lanes[n].label, letters = Math.floor((view.left - 10) / 6.2);
    paint.fillStyle = colors.text;
    paint.fillText(label.length > letters ? `…${label.slice(1 - letters)}` : label, 4, at(n) + 14, view.left - 8);
  }
  paint.beginPath(); paint.rect(view.left, TOP, view.right - view.left, view.height); paint.clip();
  for (let n = first; n < last; n++) paintLane(paint, view, colors, view.lanes[n], at(n));
  if (view.picked) outlined(paint, view, at(view.picked.lane), view.picked.bar, colors.focus, 3);
  paint.restore();
};

// All of the run, how busy it was, and which part of it is below.
const paintStrip = (canvas, view, colors, bars) => {
  const paint = prepared(canvas, view.width, STRIP), wide = view.right - view.left, parts = Math.max(1, Math.floor(wide / 2));
  const { all, bad } = densityOf(bars, view.span, parts), most = Math.max(1, all.reduce((one, other) => Math.max(one, other), 0));
  paint.fillStyle = colors.soft; paint.fillRect(0, 0, view.width, STRIP);
  paint.fillStyle = colors.quiet; paint.fillText("bodies at a time", 4, 15, view.left - 8); paint.fillText(`at most ${view.most}`, 4, 30, view.left - 8);
  for (let n = 0; n < parts; n++) {
    const high = all[n] / most * (STRIP - 10), x = view.left + n / parts * wide;
    paint.fillStyle = colors.overhead; paint.fillRect(x, STRIP - high, wide / parts + 0.3, high);
    if (bad[n]) { paint.fillStyle = colors.bad; paint.fillRect(x, 0, 2, 6); }
  }
  const x = view.left + view.from / view.span * wide, end = view.left + view.to / view.span * wide;
  paint.fillStyle = colors.back; paint.globalAlpha = 0.65;
  paint.fillRect(view.left, 0, x - view.left, STRIP); paint.fillRect(end, 0, view.right - end, STRIP);
  paint.globalAlpha = 1; paint.strokeStyle = colors.focus; paint.lineWidth = 2; paint.strokeRect(x, 1, Math.max(end - x, 3), STRIP - 2);
  if (view.choosing) { paint.fillStyle = colors.focus; paint.globalAlpha = 0.3; paint.fillRect(view.choosing[0], 0, view.choosing[1] - view.choosing[0], STRIP); paint.globalAlpha = 1; }
};
