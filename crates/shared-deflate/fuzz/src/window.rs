//! The shared window: recipients join, board, leave and come back in any order, and read every message.

use shared_deflate::deflate::{Deflater, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use shared_deflate::frame::{Opcode, parts, put_deflated};
use shared_deflate::window::{CutPolicy, SharedWindow};

use super::bits::Input;
use super::receiver::Receiver;

const RECIPIENTS_MAX: usize = 12;

/// A client that keeps its context whatever it is sent.
struct Recipient {
    receiver: Receiver,
    /// Its slot on board; none while it waits.
    slot: Option<usize>,
    /// Messages for which it has waited.
    waited: u32,
}

/// Every recipient reads every message, on board or not; slots are what the window says; nobody waits for ever.
pub fn window(input: &[u8]) {
    let mut input = Input(input);
    let window_bits = WINDOW_BITS_MIN + input.byte() % (WINDOW_BITS_MAX - WINDOW_BITS_MIN + 1);
    let policy = CutPolicy { cost_messages: u32::from(input.byte()), wait_messages_max: 1 + u32::from(input.byte()) };
    let mut window: SharedWindow<usize> = SharedWindow::new(Deflater::new(6, window_bits), policy);
    let mut alone = Deflater::new(6, window_bits);
    let mut recipients: Vec<Recipient> = Vec::new();
    while !input.is_empty() {
        let step = input.byte();
        match step & 0b11 {
            0 if recipients.len() < RECIPIENTS_MAX => {
                let receiver = Receiver::new(window_bits);
                recipients.push(Recipient { receiver, slot: None, waited: 0 });
            }
            1 if !window.members().is_empty() => {
                let slot = usize::from(step >> 2) % window.members().len();
                let (left, moved) = window.leave(slot);
                assert_eq!(recipients[left].slot.take(), Some(slot));
                if let Some(moved) = moved {
                    recipients[*moved].slot = Some(slot);
                }
            }
            _ => {
                let taken = usize::from(input.byte());
                let payload = input.take(taken).repeat(1 + usize::from(step >> 4) * 8);
                board(&mut window, &mut recipients, policy);
                send(&mut window, &mut alone, &mut recipients, &payload);
            }
        }
        for (slot, member) in window.members().iter().enumerate() {
            assert_eq!(recipients[*member].slot, Some(slot));
        }
    }
    assert!(window.statistics().cuts <= window.statistics().messages, "at most one cut before each message");
}

fn board(window: &mut SharedWindow<usize>, recipients: &mut [Recipient], policy: CutPolicy) {
    let waiting = recipients.iter().filter(|recipient| recipient.slot.is_none()).count();
    let mut cut = window.cut_for(waiting, 1);
    for (id, recipient) in recipients.iter_mut().enumerate().filter(|(_, recipient)| recipient.slot.is_none()) {
        recipient.waited += 1;
        if let Some(cut) = &mut cut {
            (recipient.slot, recipient.waited) = (Some(cut.board(id)), 0);
        }
        assert!(recipient.waited < policy.wait_messages_max, "{} messages, {policy:?}", recipient.waited);
    }
}

fn send(window: &mut SharedWindow<usize>, alone: &mut Deflater, recipients: &mut [Recipient], payload: &[u8]) {
    let (mut shared, mut stateless) = (Vec::new(), Vec::new());
    window.put_message(&mut shared, Opcode::Binary, payload);
    alone.cut();
    put_deflated(&mut stateless, Opcode::Binary, payload, alone);
    for recipient in recipients {
        let frame = if recipient.slot.is_some() { &shared } else { &stateless };
        let (opcode, deflated) = parts(frame).expect("a whole frame");
        assert_eq!(opcode, Opcode::Binary);
        assert_eq!(recipient.receiver.read(deflated, payload.len()), payload);
    }
}
