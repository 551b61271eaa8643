//! HTTP: every way to the server that is no WebSocket, and what lies before it.

mod behind_proxy;
mod bounds;
mod listeners;
mod poll;
mod requests;
mod sse;
