/**
 * The way to one client, and what can be wrong with it: mute, dripping, cut.
 *
 * @module server/outlet
 */

export class Outlet {
  #dripping = false;
  #isBusy = false;
  #drops = [];
  #block = 0;
  #collected = Buffer.alloc(0);

  /** @param {import("node:net").Socket} socket */
  constructor(socket) {
    this.socket = socket;
    this.muted = false;
  }

  /** @param {Buffer|string} bytes */
  write(bytes) {
    if (this.muted || this.socket.destroyed) return;
    if (this.#block) return this.#collect(Buffer.from(bytes));
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

  /** From here on bytes go out in blocks of this size. @param {number} bytes */
  buffer(bytes) {
    this.#block = bytes;
  }

  /** Ends it in order, after what was written. */
  end() {
    if (!this.socket.destroyed) this.socket.end();
  }

  reset() {
    this.socket.resetAndDestroy();
  }

  #collect(bytes) {
    this.#collected = Buffer.concat([this.#collected, bytes]);
    while (this.#collected.length >= this.#block) {
      this.socket.write(this.#collected.subarray(0, this.#block));
      this.#collected = this.#collected.subarray(this.#block);
    }
  }

  /** The next byte goes when the one before has gone: as slow as the machine, and no slower. */
  #drip() {
    if (this.#isBusy || !this.#drops.length || this.socket.destroyed || this.muted) return;
    this.#isBusy = true;
    this.socket.write(Buffer.from([this.#drops.shift()]), () =>
      setImmediate(() => {
        this.#isBusy = false;
        this.#drip();
      }),
    );
  }
}
