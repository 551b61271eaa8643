//! The shared window: recipients arrive, board, leave and come back in any order, and read every message.

use shared_deflate::deflate::{Deflater, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use shared_deflate::frame::{Opcode, parts, put_deflated, put_stored};
use shared_deflate::token::{Mark, Stream};
use shared_deflate::window::SharedWindow;

use super::bits::Input;
use super::receiver::Receiver;

const RECIPIENTS_MAX: usize = 12;

/// A client that keeps its context whatever it is sent.
struct Recipient {
    receiver: Receiver,
    /// Where in the stream it arrived; none once it is on board.
    arrived: Option<u64>,
    /// Its slot on board, if it is.
    slot: usize,
}

/// Every recipient reads every message, on board or not; slots are what the window says; who has a window of text boards.
pub fn window(input: &[u8]) {
    let mut input = Input(input);
    let window_bits = WINDOW_BITS_MIN + input.byte() % (WINDOW_BITS_MAX - WINDOW_BITS_MIN + 1);
    let (mut stream, mut mark) = (Stream::default(), Mark::default());
    let mut window: SharedWindow<usize> = SharedWindow::new(Deflater::new(6, window_bits), stream.position());
    let mut alone = Deflater::new(6, window_bits);
    let mut recipients: Vec<Recipient> = Vec::new();
    while !input.is_empty() {
        let step = input.byte();
        match step & 0b11 {
            0 if recipients.len() < RECIPIENTS_MAX => {
                let receiver = Receiver::new(window_bits);
                recipients.push(Recipient { receiver, arrived: Some(stream.position()), slot: 0 });
            }
            1 if !window.members().is_empty() => {
                let slot = usize::from(step >> 2) % window.members().len();
                let (left, moved) = window.leave(slot);
                assert_eq!((recipients[left].arrived, recipients[left].slot), (None, slot));
                recipients[left].arrived = Some(stream.position());
                if let Some(moved) = moved {
                    recipients[*moved].slot = slot;
                }
            }
            _ => {
                let taken = usize::from(input.byte());
                let payload = input.take(taken).repeat(1 + usize::from(step >> 4) * 8);
                board(&mut window, &mut recipients, stream.position());
                let mut other = Vec::new();
                if step & 0b100 == 0 {
                    alone.cut();
                    put_deflated(&mut other, Opcode::Binary, &payload, &mut alone);
                } else {
                    put_stored(&mut other, Opcode::Binary, &payload);
                }
                send(&mut window, &other, &mut recipients, &payload);
                stream.pass(&mut mark, payload.len());
            }
        }
        for (slot, member) in window.members().iter().enumerate() {
            assert_eq!((recipients[*member].arrived, recipients[*member].slot), (None, slot));
        }
    }
}

fn board(window: &mut SharedWindow<usize>, recipients: &mut [Recipient], position: u64) {
    if window.members().is_empty() {
        window.restart(position);
    }
    for (id, recipient) in recipients.iter_mut().enumerate() {
        if let Some(arrived) = recipient.arrived.take_if(|arrived| window.takes(*arrived, position)) {
            assert!(arrived <= position);
            recipient.slot = window.board(id);
        }
        let lacks = recipient.arrived.map(|arrived| position - arrived);
        assert!(lacks.is_none_or(|has| has < 1 << WINDOW_BITS_MAX), "it has a window of text");
    }
}

fn send(window: &mut SharedWindow<usize>, other: &[u8], recipients: &mut [Recipient], payload: &[u8]) {
    let mut shared = Vec::new();
    window.put_message(&mut shared, Opcode::Binary, payload);
    for recipient in recipients {
        let frame = if recipient.arrived.is_none() { &shared[..] } else { other };
        let (opcode, deflated) = parts(frame).expect("a whole frame");
        assert_eq!(opcode, Opcode::Binary);
        assert_eq!(recipient.receiver.read(deflated, payload.len()), payload);
    }
}
