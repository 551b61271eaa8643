/**
 * The way to one client, and what can be wrong with it: mute, dripping, cut.
 *
 * @module server/outlet
 */

/** A byte at a time, this often: a message of 300 bytes takes about a third of a second. */
const DRIP_MS = 1;

export class Outlet {
  #dripping = false;
  #drops = [];

  /** @param {import("node:net").Socket} socket */
  constructor(socket) {
    this.socket = socket;
    this.muted = false;
  }

  /** @param {Buffer|string} bytes */
  write(bytes) {
    if (this.muted || this.socket.destroyed) return;
    if (!this.#dripping) return void this.socket.write(bytes);
    this.#drops.push(...Buffer.from(bytes));
    this.#drip();
  }

  /** Nothing goes out any more, and nobody is told: the line is half open. */
  mute() {
    this.muted = true;
  }

  /** From here on everything goes out byte by byte. */
  drip() {
    this.#dripping = true;
    this.socket.setNoDelay(true);
  }

  /** Ends it in order, after what was written. */
  end() {
    if (!this.socket.destroyed) this.socket.end();
  }

  reset() {
    this.socket.resetAndDestroy();
  }

  #drip() {
    if (this.dripper) return;
    this.dripper = setInterval(() => {
      if (this.#drops.length && !this.socket.destroyed && !this.muted) return void this.socket.write(Buffer.from([this.#drops.shift()]));
      clearInterval(this.dripper);
      this.dripper = undefined;
    }, DRIP_MS);
  }
}
