//! stub
#![allow(missing_docs, unused)]
use crate::frame::{Opcode, put_header};
pub const REFERENCES_MAX: usize = 4;
#[derive(Debug, Default)]
pub struct Tokenizer;
impl Tokenizer { pub fn new() -> Tokenizer { Tokenizer } pub fn tokens(&mut self, text: &[u8], references: &[&[u8]]) -> Option<Tokens> { None } }
#[derive(Debug)]
pub struct Tokens;
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark(u64, u32);
#[derive(Clone, Copy, Debug, Default)]
pub struct Lookback([u16; 4]);
impl Lookback { pub fn has_newest(&self) -> bool { self.0[0] != 0 } }
#[derive(Debug)]
pub struct Stream { bits: u8, position: u64, floor: u64 }
impl Stream {
    pub fn new(window_bits: u8) -> Stream { Stream { bits: window_bits, position: 1, floor: 1 } }
    pub fn window_bits(&self) -> u8 { self.bits }
    pub fn arrive(&mut self) { self.floor = self.position; }
    pub fn pass(&mut self, mark: &mut Mark, text_bytes: usize) -> Lookback {
        let back = if mark.0 >= self.floor { (self.position - mark.0).min(65535) as u16 } else { 0 };
        mark.0 = self.position; self.position += text_bytes as u64; Lookback([back, 0, 0, 0])
    }
}
pub fn put_tokens(out: &mut Vec<u8>, opcode: Opcode, tokens: &Tokens, lookback: &Lookback, window_bits: u8) -> bool { false }
pub fn put_stored(out: &mut Vec<u8>, opcode: Opcode, text: &[u8]) {
    let mut payload = Vec::with_capacity(text.len() + 6);
    for part in text.chunks(65535) {
        payload.push(0);
        payload.extend_from_slice(&(part.len() as u16).to_le_bytes());
        payload.extend_from_slice(&(!(part.len() as u16)).to_le_bytes());
        payload.extend_from_slice(part);
    }
    payload.push(0);
    put_header(out, opcode, true, payload.len());
    out.extend_from_slice(&payload);
}
