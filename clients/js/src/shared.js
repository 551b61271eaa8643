/** @module shared */
export { connect } from "./fanline.js";
