/**
 * The view of one topic: how it stands, and the panel that fits what it is.
 *
 * @module topic_view
 */

import { Chart } from "../chart.js";
import { byId, element, setText } from "../dom.js";
import { KINDS } from "../route.js";
import { placeName, places } from "../topics/payload.js";
import { age } from "../topics/row.js";
import { breakable, confidenceOf, delayText } from "../topics/row_view.js";
import { BookPanel } from "./book_panel.js";
import { ChatPanel, TapePanel } from "./list_panels.js";
import { quote } from "./shape.js";

const PAINT_MS = 100;
/** A message that long is cut: it is to be looked at, not to be read. */
const PAYLOAD_CHARS_MAX = 20_000;
const RELATED_MAX = 6;

const NAMES = { quote: "Quote", trades: "Trades", book: "Order book", chat: "Chat", json: "JSON" };
/** Panels of each kind; the value and the newest message have a place in all views. */
const SECTIONS = { quote: ["quote", "history"], trades: ["history", "tape"], book: ["book"], chat: ["chat"], json: [] };

export class TopicView {
  row = null;
  #panels;
  #chart = new Chart(byId("chart"), [{ label: "value", colour: "--accent" }]);
  #open = null; // panel of the kind shown
  #kind = "";
  #asked = "";
  #chosen = "";
  #painted = { at: 0, frame: null, places: "" };

  /**
   * @param {ReturnType<typeof import("../../fanline.js").connect>} client
   * @param {{onKind: (kind: string) => void, onPlace: (place: string) => void}} hooks
   */
  constructor(client, { onKind, onPlace }) {
    this.#panels = { trades: new TapePanel(), book: new BookPanel(client), chat: new ChatPanel() };
    byId("kind").addEventListener("change", (event) => onKind(event.target.value));
    byId("place").addEventListener("change", (event) => onPlace(event.target.value));
  }

  /**
   * @param {string} topic
   * @param {import("../topics/row.js").Row|null} row
   * @param {string} asked kind that a person wants; empty: by the topic's shape
   * @param {string} chosen place of the value that a person wants; empty: found by the page
   */
  show(topic, row, asked, chosen) {
    if (row && row === this.row && asked === this.#asked && chosen === this.#chosen) return;
    this.close();
    [this.row, this.#asked, this.#chosen] = [row, asked, chosen];
    byId("topic-name").replaceChildren(...breakable(topic));
    byId("topic-empty").hidden = row !== null;
    byId("topic-body").hidden = row === null;
    if (!row) return;
    this.#openPanel();
  }

  close() {
    this.#open?.close();
    this.#chart.clear();
    [this.row, this.#open, this.#kind] = [null, null, ""];
    this.#painted = { at: 0, frame: null, places: "" };
  }

  #openPanel() {
    this.#kind = this.#asked || this.row.kind || "json";
    const automatic = element("option", { value: "" }, `Automatic: ${NAMES[this.row.kind ?? "json"]}`);
    byId("kind").replaceChildren(automatic, ...KINDS.map((kind) => element("option", { value: kind }, NAMES[kind])));
    byId("kind").value = this.#asked;
    byId("topic-view").dataset.kind = this.#kind;
    for (const id of ["quote", "history", "tape", "book", "chat"]) byId(id).hidden = !SECTIONS[this.#kind].includes(id);
    this.#open = this.#panels[this.#kind] ?? null;
    this.#open?.open(this.row);
    byId("quote-sides").hidden = true;
  }

  /** Topics of the same thing: `trade.AAPL` beside `quote.AAPL`. @param {Iterable<string>} topics @param {(topic: string) => string} hrefOf */
  relate(topics, hrefOf) {
    if (!this.row) return;
    const name = this.row.topic.split(".").slice(1).join(".");
    const related = name ? [...topics].filter((topic) => topic !== this.row.topic && topic.endsWith(`.${name}`)) : [];
    const links = related.sort().slice(0, RELATED_MAX).map((topic) => element("a", { href: hrefOf(topic) }, topic));
    const key = links.map(({ href }) => href).join();
    if (byId("related").dataset.key === key) return;
    byId("related").dataset.key = key;
    byId("related").hidden = links.length === 0;
    byId("related-links").replaceChildren(...links);
  }

  /** @param {number} now @param {boolean} current @param {number} delay in ms */
  paint(now, current, delay) {
    const { row } = this;
    if (!row?.frame || now - this.#painted.at < PAINT_MS) return;
    this.#painted.at = now;
    this.#paintState(row, now, current, delay);
    setText(byId("topic-value"), row.isNumeric ? row.valueText : "");
    setText(byId("topic-change"), row.isNumeric ? `${row.changeText} (${row.percentText}) since open` : "");
    byId("topic-change").dataset.trend = row.percent > 0 ? "up" : row.percent < 0 ? "down" : "even";
    setText(byId("fact-rate"), row.rate >= 0.05 ? `${row.rate.toFixed(1)} /s` : "–");
    setText(byId("fact-count"), String(row.count));
    setText(byId("fact-range"), row.isNumeric ? `${row.formatted(row.history.range.low)} – ${row.formatted(row.history.range.high)}` : "–");
    if (row.frame !== this.#painted.frame) this.#paintFrame(row);
    if (!byId("history").hidden) this.#chart.paint(now, row.history.version, () => row.history.columns());
    this.#open?.paint(now);
  }

  #paintState(row, now, current, delay) {
    const confidence = confidenceOf(row, now, current, delay);
    byId("topic-view").dataset.confidence = confidence;
    const since = age(now - row.at);
    const states = {
      current: `Current. Last message: ${since === "now" ? "now" : `${since} ago`}.`,
      delayed: `Delayed ${delayText(delay)}: the feed says something newer by now.`,
      quiet: `Unusually quiet: no message for ${since}.`,
      unconfirmed: `Not confirmed since the feed was down. Last message: ${since} ago.`,
      old: `Not current. Age of this value: ${since}.`,
    };
    setText(byId("topic-state"), states[confidence]);
  }

  #paintFrame(row) {
    const { frame } = row;
    this.#painted.frame = frame;
    setText(byId("fact-time"), `${new Date(frame.ts).toISOString().slice(11, 23)} UTC`);
    setText(byId("fact-offset"), String(frame.offset));
    const payload = frame.data ?? frame.data_base64;
    const text = typeof payload === "string" ? payload : JSON.stringify(payload, null, 2);
    setText(byId("payload"), text.slice(0, PAYLOAD_CHARS_MAX) + (text.length > PAYLOAD_CHARS_MAX ? "…" : ""));
    if (this.#kind === "quote") paintQuote(quote(frame.data));
    if (!byId("history").hidden) this.#offerPlaces(places(frame.data), row);
  }

  #offerPlaces(found, { place }) {
    const chosen = this.#chosen;
    const key = [chosen, place, ...found].join();
    if (key === this.#painted.places) return;
    this.#painted.places = key;
    const automatic = place !== null && !chosen ? `Automatic: ${placeName(place)}` : "Automatic";
    const select = byId("place");
    select.replaceChildren(new Option(automatic, ""), ...found.map((each) => new Option(placeName(each), each)));
    select.value = found.includes(chosen) ? chosen : "";
  }
}

/** A message without both sides leaves them as they were. */
function paintQuote(sides) {
  if (!sides) return;
  byId("quote-sides").hidden = false;
  const digits = Math.max(...[sides.bid, sides.ask].map((price) => (String(price).split(".")[1] ?? "").length));
  setText(byId("quote-bid"), sides.bid.toFixed(digits));
  setText(byId("quote-ask"), sides.ask.toFixed(digits));
  setText(byId("quote-bid-size"), sides.bidSize);
  setText(byId("quote-ask-size"), sides.askSize);
  setText(byId("quote-spread"), (sides.ask - sides.bid).toFixed(digits));
}
