/**
 * Who may connect: tokens by name, as a case lists them. A real token is a JWT; to a client it is opaque.
 *
 * @module server/credentials
 */

/** @typedef {{token: string, way: "auth"|"header"|"subprotocol"|"ticket", at: number, valid: boolean}} Shown */

export class Credentials {
  /** @type {Shown[]} in the order in which they were shown */
  shown = [];
  #dead = new Set();
  #firstShown = new Map();
  #tickets = new Map();

  /** @param {{required?: boolean, tokens?: Record<string, {expires_ms?: number}>}} [settings] */
  constructor(settings) {
    this.settings = settings;
  }

  /** Whether the server knows its clients at all. */
  get isOn() {
    return this.settings !== undefined;
  }

  get isRequired() {
    return this.settings?.required === true;
  }

  /** What a request shows, if anything. @param {import("./http.mjs").Request} request */
  ofRequest({ headers, query }) {
    const bearer = /^Bearer (.+)$/.exec(headers.authorization ?? "")?.[1];
    if (bearer !== undefined) return { token: bearer, way: "header" };
    const offered = (headers["sec-websocket-protocol"] ?? "").split(/\s*,\s*/);
    const proposal = offered.find((name) => name.startsWith("fanline.bearer."));
    if (proposal) return { token: Buffer.from(proposal.slice(15), "base64url").toString(), way: "subprotocol" };
    const ticket = query.get("ticket");
    if (ticket === null) return undefined;
    const token = this.#tickets.get(ticket);
    this.#tickets.delete(ticket);
    return { token: token ?? `ticket ${ticket}`, way: "ticket" };
  }

  /** Judges a token; gives what `authenticated` says, or undefined if it is not valid. */
  judge(token, way) {
    const now = Date.now();
    const known = this.settings?.tokens?.[token];
    if (known && !this.#firstShown.has(token)) this.#firstShown.set(token, now);
    const expires_ms = known && (known.expires_ms ?? 3_600_000) - (now - this.#firstShown.get(token));
    const valid = known !== undefined && expires_ms > 0 && !this.#dead.has(token);
    this.shown.push({ token, way, at: now, valid });
    const { expires_ms: _, ...rights } = known ?? {};
    return valid ? { sub: "alice", tier: "all", expires_ms: Math.round(expires_ms), ...rights } : undefined;
  }

  /** Exchanges a token for a ticket. */
  ticket(token) {
    const ticket = `ticket-${this.#tickets.size}-${token.length}-${Date.now()}`;
    this.#tickets.set(ticket, token);
    return ticket;
  }

  /** The token counts no more. */
  kill(token) {
    this.#dead.add(token);
  }
}
