/**
 * The transport `websocket`: text messages both ways. Part of `fanline.js`.
 *
 * @module websocket
 */

/**
 * One way to carry the protocol's messages. `open` begins a connection; it tells of itself by the hooks, asynchronously.
 * @typedef {object} Transport
 * @property {string} name
 * @property {boolean} [duplex] whether the server answers `ping`, `send` and `request`
 * @property {(options: import("./link.js").Settings) => number} [late_ms] how much later than usual its messages are read
 * @property {(request: Request) => Connection} open
 */
/**
 * @typedef {object} Request
 * @property {URL} url of `/v1/ws`, with `policy` and `every` in its query
 * @property {import("./link.js").Settings} options
 * @property {() => void} onOpen commands can be sent
 * @property {(text: string) => void} onText a message has come
 * @property {(loss: Loss) => void} onClose the connection is over
 */
/**
 * `code` is that of a close frame, an HTTP status, or a word; `retry_ms` is when the server wants to be asked again.
 * @typedef {{code?: number|string, reason?: string, retry_ms?: number, terminal?: boolean}} Loss
 */
/**
 * `cursor` is where to go on after it, if the connection knows that better than its messages do.
 * @typedef {{send: (command: Record<string, any>) => void, close: () => void, cursor?: string}} Connection
 */

/** @type {Transport} */
export const websocket = {
  name: "websocket",
  duplex: true,
  open({ url, options, onOpen, onText, onClose }) {
    const socket = new (checkWebSocket(options))(url.href);
    let wasOpen = false;
    socket.onopen = () => {
      wasOpen = true;
      onOpen();
    };
    socket.onmessage = ({ data }) => onText(data);
    socket.onclose = onClose;
    // Some implementations say no more of a handshake that fails.
    socket.onerror = () => wasOpen || onClose({ code: 1006 });
    return {
      send: (command) => {
        if (socket.readyState === 1) socket.send(JSON.stringify(command));
      },
      close: () => {
        socket.onopen = socket.onmessage = socket.onclose = null;
        socket.onerror = () => {};
        socket.close();
      },
    };
  },
};

/** @param {Pick<import("./options.js").Options, "WebSocket">} options */
export function checkWebSocket({ WebSocket }) {
  if (!WebSocket) throw new TypeError("expected a global WebSocket, found none; pass one as options.WebSocket");
  return WebSocket;
}
