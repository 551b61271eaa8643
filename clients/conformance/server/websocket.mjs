/**
 * WebSocket framing (RFC 6455, sections 4.2 and 5) of a server that may also break it. No compression: it accepts none.
 *
 * @module server/websocket
 */

import { createHash } from "node:crypto";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

/** The head of a successful upgrade. */
export function upgraded(headers) {
  const accept = createHash("sha1")
    .update(headers["sec-websocket-key"] + GUID)
    .digest("base64");
  const offered = (headers["sec-websocket-protocol"] ?? "").split(/\s*,\s*/);
  const protocol = offered.includes("fanline.v1") ? "sec-websocket-protocol: fanline.v1\r\n" : "";
  return `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ${accept}\r\n${protocol}\r\n`;
}

/** One frame of a server: unmasked. @param {number} opcode @param {Buffer} payload */
export function frame(opcode, payload, { fin = true } = {}) {
  const length = payload.length;
  const head = [(fin ? 0x80 : 0) | opcode];
  if (length < 126) head.push(length);
  else if (length < 65_536) head.push(126, length >> 8, length & 255);
  else {
    const long = Buffer.alloc(8);
    long.writeBigUInt64BE(BigInt(length));
    head.push(127, ...long);
  }
  return Buffer.concat([Buffer.from(head), payload]);
}

/** A close frame. */
export function closing(code, reason = "") {
  const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
  payload.writeUInt16BE(code);
  payload.write(reason, 2);
  return frame(CLOSE, payload);
}

/** Reads what a client sends, and says where it breaks the protocol. */
export class FrameReader {
  #unread = Buffer.alloc(0);
  #parts = [];
  #opcode = 0;

  /** @param {{onMessage: (opcode: number, payload: Buffer) => void, onFault: (sentence: string) => void}} hooks */
  constructor(hooks) {
    this.hooks = hooks;
  }

  push(bytes) {
    this.#unread = this.#unread.length ? Buffer.concat([this.#unread, bytes]) : bytes;
    while (this.#step());
  }

  #step() {
    const bytes = this.#unread;
    if (bytes.length < 2) return false;
    let length = bytes[1] & 127;
    let at = 2;
    if (length === 126) {
      if (bytes.length < 4) return false;
      length = bytes.readUInt16BE(2);
      at = 4;
    } else if (length === 127) {
      if (bytes.length < 10) return false;
      length = Number(bytes.readBigUInt64BE(2));
      at = 10;
    }
    const masked = bytes[1] >> 7;
    if (bytes.length < at + 4 * masked + length) return false;
    const mask = bytes.subarray(at, at + 4);
    at += 4 * masked;
    const payload = Buffer.from(bytes.subarray(at, at + length));
    this.#unread = bytes.subarray(at + length);
    if (masked) for (let i = 0; i < length; i++) payload[i] ^= mask[i & 3];
    else this.hooks.onFault("a frame of a client is masked (RFC 6455, 5.1), found one that is not");
    if (bytes[0] & 0x70) this.hooks.onFault("reserved bits are 0 without an extension, found others");
    this.#take(bytes[0] & 15, bytes[0] >> 7, payload);
    return true;
  }

  #take(opcode, fin, payload) {
    if (opcode >= 8) return this.hooks.onMessage(opcode, payload);
    if (opcode) this.#opcode = opcode;
    this.#parts.push(payload);
    if (!fin) return;
    const whole = Buffer.concat(this.#parts);
    this.#parts = [];
    this.hooks.onMessage(this.#opcode, whole);
  }
}
