/**
 * The JavaScript adapter in a browser: each adapter is a frame of one page, and speaks by a WebSocket of its own.
 *
 * @module runner/adapter_browser
 */

export class AdapterBrowser {}
