// From the data to lanes of bars, in which no two overlap: a lane for each thread of a worker, or for each task run.

// One execution of a body, and what it waited for before.
const toBars = (data) => data.bars.map(([row, lane, available, started, ended, outcome], n) => {
  const [since, placed, ...fetched] = data.waits[n] || [available, available];
  return { row, lane, since, available, placed, started, ended, fetched, outcome: data.outcomes[outcome], task: data.rows[row][1] };
});

// Gives each bar the time from which on its lane is free, so that what it waited for is drawn over nothing else.
const finished = (label, bars) => {
  bars.sort((a, b) => a.started - b.started || a.ended - b.ended);
  let free = 0;
  const marks = bars.map((bar) => {
    const mark = { bar, from: Math.min(Math.max(free, bar.since), bar.started) };
    free = Math.max(free, bar.ended);
    return mark;
  });
  return { label, marks };
};

const lanesByThread = (data, bars) => {
  const found = data.lanes.map(() => []);
  bars.forEach((bar) => found[bar.lane].push(bar));
  const worker = (n) => (data.lanes[n] || "").replace(/ #\d+$/, "");
  return found.map((own, n) => ({ ...finished(data.lanes[n].replace(/^[a-z]+:\/\//, ""), own), isLast: worker(n) !== worker(n + 1) }));
};

const lanesByRun = (data, bars) => {
  const rows = new Map();
  [...bars].sort((a, b) => a.started - b.started).forEach((bar) => {
    if (!rows.has(bar.row)) rows.set(bar.row, []);
    // An attempt that was given up may go on beside the next one.
    const own = rows.get(bar.row), place = own.find((lane) => lane[lane.length - 1].ended <= bar.started + 1e-9);
    if (place) place.push(bar); else own.push([bar]);
  });
  const lanes = [];
  const first = (own) => own[0][0].since;
  [...rows].sort((a, b) => first(a[1]) - first(b[1]) || a[0] - b[0]).forEach(([row, own]) => own.forEach((lane, n) =>
    lanes.push(finished(data.rows[row][0] + (n ? ` (beside it: ${n + 1})` : ""), lane))));
  return lanes;
};

// The first mark of a lane that ends after a time.
const firstAfter = (marks, at) => {
  let low = 0, high = marks.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (marks[middle].bar.ended < at) low = middle + 1; else high = middle;
  }
  return low;
};

// How many bodies run, for each of so many equal parts of the time; and how many of them did not go well.
const densityOf = (bars, span, parts) => {
  const all = new Float64Array(parts + 1), bad = new Uint8Array(parts + 1);
  for (const { started, ended, outcome } of bars) {
    const from = started / span * parts, to = ended / span * parts, first = Math.floor(from), last = Math.min(Math.floor(to), parts - 1);
    if (first >= last) all[Math.min(first, parts - 1)] += to - from;
    else {
      all[first] += first + 1 - from;
      for (let n = first + 1; n < last; n++) all[n] += 1;
      all[last] += to - last;
    }
    if (BAD.has(outcome)) bad[last] = 1;
  }
  return { all, bad };
};

// How many bodies have run at a time, at most.
const mostAtATime = (bars) => {
  // What ends when another begins has made room for it.
  const moves = bars.flatMap((bar) => [[bar.started, 1], [bar.ended, -1]]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let now = 0, most = 0;
  for (const [, by] of moves) { now += by; most = Math.max(most, now); }
  return Math.max(most, Math.min(bars.length, 1));
};
