/**
 * HTTP/1.1 on a bare socket, so that answers can be late, cut or wrong.
 *
 * @module server/http
 */

const HEAD_BYTES_MAX = 64 * 1024;
const REASONS = { 200: "OK", 204: "No Content", 304: "Not Modified", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden" };

/**
 * @typedef {object} Request
 * @property {string} method
 * @property {string} path
 * @property {URLSearchParams} query
 * @property {Record<string, string>} headers
 * @property {string} body
 * @property {boolean} [isLast] the connection ends with the answer
 */

/** Reads requests off a socket; until `handOver`, after which bytes go to the new owner. */
export class RequestReader {
  #unread = Buffer.alloc(0);
  #owner = null;

  /** @param {import("node:net").Socket} socket @param {(request: Request) => void} onRequest */
  constructor(socket, onRequest) {
    this.onRequest = onRequest;
    socket.on("data", (bytes) => {
      if (this.#owner) return this.#owner(bytes);
      this.#unread = Buffer.concat([this.#unread, bytes]);
      while (!this.#owner && this.#step());
      if (this.#unread.length > HEAD_BYTES_MAX) socket.destroy();
    });
  }

  /** What comes from here on is not HTTP. @param {(bytes: Buffer) => void} owner */
  handOver(owner) {
    this.#owner = owner;
    const unread = this.#unread;
    this.#unread = Buffer.alloc(0);
    if (unread.length) owner(unread);
  }

  #step() {
    const end = this.#unread.indexOf("\r\n\r\n");
    if (end < 0) return false;
    const [first, ...lines] = this.#unread.subarray(0, end).toString("latin1").split("\r\n");
    const headers = {};
    for (const line of lines) {
      const colon = line.indexOf(":");
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const length = Number(headers["content-length"] ?? 0);
    const begin = end + 4;
    if (this.#unread.length < begin + length) return false;
    const body = this.#unread.subarray(begin, begin + length).toString();
    this.#unread = this.#unread.subarray(begin + length);
    const [method, target] = first.split(" ");
    const url = new URL(target, "http://host");
    this.onRequest({ method, path: url.pathname, query: url.searchParams, headers, body });
    return true;
  }
}

/** A head; `headers` of which the value is undefined are left out. */
export function head(status, headers) {
  const lines = Object.entries(headers).filter(([, value]) => value !== undefined);
  const text = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return `HTTP/1.1 ${status} ${REASONS[status] ?? "Status"}\r\n${text}\r\n`;
}

/** What lets pages of other origins read the answer. */
export function cors(request) {
  const origin = request.headers.origin;
  return {
    "access-control-allow-origin": origin,
    "access-control-allow-credentials": origin && "true",
    "access-control-expose-headers": origin && "etag, retry-after, fanline-epoch, fanline-offset, fanline-next, fanline-feed",
    vary: "accept-encoding, origin, authorization",
  };
}

/** A whole answer. @param {Request} request @param {string|Buffer} [body] */
export function answer(request, status, headers, body = "") {
  const bytes = Buffer.from(body);
  const hasBody = status !== 204 && status !== 304;
  const all = { ...cors(request), ...headers, connection: request.isLast ? "close" : undefined, "content-length": hasBody ? bytes.length : undefined };
  return Buffer.concat([Buffer.from(head(status, all)), hasBody && request.method !== "HEAD" ? bytes : Buffer.alloc(0)]);
}

/** An answer in JSON. */
export function json(request, status, value, headers = {}) {
  const body = typeof value === "string" ? value : JSON.stringify(value);
  return answer(request, status, { "content-type": "application/json", "cache-control": "no-store", ...headers }, body);
}

/** One piece of a chunked body. */
export function piece(bytes) {
  const all = Buffer.from(bytes);
  return Buffer.concat([Buffer.from(`${all.length.toString(16)}\r\n`), all, Buffer.from("\r\n")]);
}
