/**
 * What the page shows, as the fragment of its address: `#/topic/quote.AAPL?topics=quote.*&sort=-rate&pins=trade.V`.
 *
 * Everything a person chooses is in it, so that an address can be bookmarked and shared. It is never sent to a server.
 * No DOM.
 *
 * @module route
 */

/** @typedef {"topics"|"topic"|"health"|"use"} ViewName */
/**
 * @typedef {object} Route
 * @property {ViewName} view
 * @property {string} topic shown by the view `topic`
 * @property {string[]} patterns subscribed to
 * @property {string} sort a column; `descending` is its direction
 * @property {boolean} descending
 * @property {string[]} pins topics that stay on top
 * @property {number} group how many tokens of a topic name its group; 0 is no groups
 * @property {string} as kind of panel of the view `topic`; empty: by the topic's shape
 * @property {string} place of the value in the payload; empty: found by the page
 * @property {string} language of the view `use`
 */

export const VIEWS = ["topics", "topic", "health", "use"];
export const SORTS = ["topic", "value", "change", "rate", "age"];
export const KINDS = ["quote", "trades", "book", "chat", "json"];
export const LANGUAGES = ["js", "python", "curl", "wscat"];
const GROUP_TOKENS_MAX = 2;
/** An address is pasted into chats; a list beyond that is for a file. */
const PINS_MAX = 100;

/** Sorts that begin with the greatest. */
const DESCENDING = new Set(["value", "change", "rate"]);

/** @returns {Route} */
export function home() {
  return {
    view: "topics",
    topic: "",
    patterns: [">"],
    ...sorted("topic"),
    pins: [],
    group: 0,
    as: "",
    place: "",
    language: LANGUAGES[0],
  };
}

/** A sort in its usual direction. @param {string} sort */
export function sorted(sort) {
  return { sort, descending: DESCENDING.has(sort) };
}

/** What is unknown or out of bounds becomes the default: an address of another version still opens. @param {string} hash @returns {Route} */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [name, topic = ""] = path.split(/\/(.*)/s);
  const members = new URLSearchParams(query);
  const list = (key) => (members.get(key) ?? "").split(",").filter(Boolean);
  const oneOf = (all, key) => (all.includes(members.get(key)) ? members.get(key) : "");
  const route = home();
  route.topic = decoded(topic);
  route.view = VIEWS.includes(name) && (name !== "topic" || route.topic) ? name : "topics";
  if (route.view !== "topic") route.topic = "";
  if (list("topics").length) route.patterns = list("topics");
  const sort = (members.get("sort") ?? "").replace(/^-/, "");
  if (SORTS.includes(sort)) [route.sort, route.descending] = [sort, members.get("sort").startsWith("-")];
  route.pins = [...new Set(list("pins"))].slice(0, PINS_MAX);
  route.group = Math.min(Math.max(Math.trunc(Number(members.get("group"))) || 0, 0), GROUP_TOKENS_MAX);
  route.as = oneOf(KINDS, "as");
  route.place = members.get("place") ?? "";
  route.language = oneOf(LANGUAGES, "in") || route.language;
  return route;
}

/** The shortest fragment that `parse` reads as this route. @param {Route} route */
export function format(route) {
  const usual = home();
  const members = [];
  const put = (key, value, standard = "") => value !== standard && members.push(`${key}=${encoded(value)}`);
  put("topics", route.patterns.join(), usual.patterns.join());
  put("sort", `${route.descending ? "-" : ""}${route.sort}`, usual.sort);
  put("pins", route.pins.join());
  put("group", String(route.group), "0");
  put("as", route.as);
  put("place", route.place);
  put("in", route.language, usual.language);
  const path = route.view === "topic" ? `topic/${encoded(route.topic)}` : route.view;
  return `#/${path}${members.length ? `?${members.join("&")}` : ""}`;
}

/** Commas and slashes may stand in a fragment as they are, and are easier to read so. */
const encoded = (text) => encodeURIComponent(text).replaceAll("%2C", ",").replaceAll("%2F", "/").replaceAll("%40", "@");

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
