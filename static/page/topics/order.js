/**
 * Rows in the order in which a person wants to see them: pinned ones first, then groups, sorted. No DOM.
 *
 * @module order
 */

/** @typedef {import("./row.js").Row} Row */
/** @typedef {{key: string, group: string, count: number, closed: boolean}} GroupItem */
/** @typedef {{key: string, row: Row, pinned: boolean}} RowItem */

const byTopic = (a, b) => (a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : 0);
/** Ascending; what has no such value comes last in both directions. */
const KEYS = {
  value: (row) => (row.isNumeric ? row.value : NaN),
  change: (row) => (row.isNumeric ? Math.abs(row.percent) : NaN),
  rate: (row) => row.rate,
  age: (row) => -row.at,
};

function comparison(sort, descending) {
  const sign = descending ? -1 : 1;
  const key = KEYS[sort];
  if (!key) return (a, b) => sign * byTopic(a, b);
  return (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || byTopic(a, b);
    return sign * (x - y) || byTopic(a, b);
  };
}

/** The group of a topic: its first tokens, but never the last one. A topic of one token has none. @param {string} topic @param {number} tokens */
export function groupOf(topic, tokens) {
  const parts = topic.split(".");
  return parts.slice(0, Math.min(tokens, parts.length - 1)).join(".");
}

/**
 * The items of the table from top to bottom.
 * @param {Iterable<Row>} rows
 * @param {{sort: string, descending: boolean, pins: string[], group: number}} route
 * @param {Set<string>} closed groups whose rows are not shown
 * @returns {(GroupItem|RowItem)[]}
 */
export function arrange(rows, { sort, descending, pins, group }, closed) {
  const pinned = new Set(pins);
  const compare = comparison(sort, descending);
  const [top, rest] = [[], []];
  for (const row of rows) (pinned.has(row.topic) ? top : rest).push(row);
  const items = top.sort(compare).map((row) => ({ key: row.topic, row, pinned: true }));
  rest.sort(compare);
  if (!group) return items.concat(rest.map((row) => ({ key: row.topic, row, pinned: false })));
  const groups = grouped(rest, group);
  for (const name of [...groups.keys()].sort()) {
    const members = groups.get(name);
    const isClosed = closed.has(name);
    items.push({ key: ` ${name}`, group: name, count: members.length, closed: isClosed });
    if (!isClosed) for (const row of members) items.push({ key: row.topic, row, pinned: false });
  }
  return items;
}

function grouped(rows, group) {
  const groups = new Map();
  for (const row of rows) {
    const name = groupOf(row.topic, group);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  }
  return groups;
}
