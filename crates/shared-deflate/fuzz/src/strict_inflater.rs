//! An inflater that takes nothing from outside the window that was agreed on (RFC 1951, RFC 7692).
//!
//! Stock inflaters are lenient: they also look up in what they have put out since they were called, and some keep 32 KiB
//! whatever was agreed on. Here a reference that reaches a single byte too far is an error.

/// What a deflated message ends in and the wire leaves out (RFC 7692 section 7.2.1).
pub const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

const LENGTH_BASES: [u16; 29] =
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_BITS: [u8; 29] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const CODE_LENGTHS_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LITERALS: usize = 286;
const DISTANCES: usize = 30;

type Inflated<T> = Result<T, String>;

/// Never reset: what a message refers to must be in the window.
pub struct StrictInflater {
    window_bytes: usize,
    /// The last bytes that were put out; never more than the window between messages.
    out: Vec<u8>,
}

/// A canonical code: how many codes there are of each length, and their symbols in order.
struct Code {
    counts: [u16; 16],
    symbols: Vec<u16>,
}

struct BitReader<'i> {
    input: &'i [u8],
    /// In bits.
    at: usize,
}

impl StrictInflater {
    pub fn new(window_bits: u8) -> StrictInflater {
        StrictInflater { window_bytes: 1 << window_bits, out: Vec::new() }
    }

    /// The text of the payload of one message.
    pub fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        self.try_inflate(payload).unwrap_or_else(|error| panic!("expected a message for this window: {error}"))
    }

    /// An error if this is no deflate, or refers to what is not in the window.
    pub fn try_inflate(&mut self, payload: &[u8]) -> Inflated<Vec<u8>> {
        let input = [payload, &TAIL].concat();
        let mut bits = BitReader { input: &input, at: 0 };
        self.out.drain(..self.out.len().saturating_sub(self.window_bytes));
        let start = self.out.len();
        while bits.at < 8 * input.len() {
            if bits.take(1)? == 1 {
                return Err("expected a stream without an end, found a last block".into());
            }
            match bits.take(2)? {
                0 => self.stored(&mut bits)?,
                1 => self.compressed(&mut bits, &Code::of(&fixed_lengths()), &Code::of(&[5; DISTANCES]))?,
                2 => {
                    let (literals, distances) = codes(&mut bits)?;
                    self.compressed(&mut bits, &literals, &distances)?;
                }
                _ => return Err("found a block of a reserved type".into()),
            }
        }
        Ok(self.out[start..].to_vec())
    }

    fn stored(&mut self, bits: &mut BitReader<'_>) -> Inflated<()> {
        bits.at = bits.at.next_multiple_of(8);
        let (bytes, check) = (bits.take(16)?, bits.take(16)?);
        if bytes != check ^ 0xFFFF {
            return Err(format!("a stored block of {bytes} bytes says {check:#x}"));
        }
        for _ in 0..bytes {
            self.out.push(bits.take(8)? as u8);
        }
        Ok(())
    }

    fn compressed(&mut self, bits: &mut BitReader<'_>, literals: &Code, distances: &Code) -> Inflated<()> {
        loop {
            let symbol = literals.next(bits)?;
            match symbol {
                0..256 => self.out.push(symbol as u8),
                256 => return Ok(()),
                _ => {
                    let index = symbol - 257;
                    let base = LENGTH_BASES.get(index).ok_or("found a reserved length")?;
                    let length = usize::from(*base) + bits.take(LENGTH_BITS[index])?;
                    let symbol = distances.next(bits)?;
                    let extra = (symbol / 2).saturating_sub(1) as u8;
                    let base = if symbol < 4 { symbol + 1 } else { ((2 + symbol % 2) << extra) + 1 };
                    let distance = base + bits.take(extra)?;
                    if distance > self.window_bytes.min(self.out.len()) {
                        return Err(format!("found a distance of {distance} in a window of {}", self.window_bytes));
                    }
                    for _ in 0..length {
                        self.out.push(self.out[self.out.len() - distance]);
                    }
                }
            }
        }
    }
}

impl Code {
    fn of(lengths: &[u8]) -> Code {
        let mut counts = [0; 16];
        lengths.iter().for_each(|length| counts[usize::from(*length)] += 1);
        counts[0] = 0;
        let of_length = |length| (0..lengths.len()).filter(move |symbol| lengths[*symbol] == length);
        let symbols = (1..16).flat_map(of_length).map(|symbol| symbol as u16).collect();
        Code { counts, symbols }
    }

    fn next(&self, bits: &mut BitReader<'_>) -> Inflated<usize> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            let count = usize::from(*count);
            code |= bits.take(1)?;
            if code < first + count {
                return Ok(usize::from(self.symbols[index + code - first]));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err("found a code that stands for nothing".into())
    }
}

impl BitReader<'_> {
    fn take(&mut self, count: u8) -> Inflated<usize> {
        let mut value = 0;
        for place in 0..count {
            let byte = self.input.get(self.at / 8).ok_or("the message ends too early")?;
            value |= usize::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Ok(value)
    }
}

fn fixed_lengths() -> [u8; 288] {
    std::array::from_fn(|symbol| match symbol {
        0..144 => 8,
        144..256 => 9,
        256..280 => 7,
        _ => 8,
    })
}

/// The codes that a block begins with.
fn codes(bits: &mut BitReader<'_>) -> Inflated<(Code, Code)> {
    let (literals, distances, own) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
    if literals > LITERALS || distances > DISTANCES {
        return Err(format!("found {literals} literals and {distances} distances"));
    }
    let mut own_lengths = [0; 19];
    for place in &CODE_LENGTHS_ORDER[..own] {
        own_lengths[*place] = bits.take(3)? as u8;
    }
    let code = Code::of(&own_lengths);
    let mut lengths: Vec<u8> = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match code.next(bits)? {
            16 => (*lengths.last().ok_or("found a repeat of nothing")?, bits.take(2)? + 3),
            17 => (0, bits.take(3)? + 3),
            18 => (0, bits.take(7)? + 11),
            length => (length as u8, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    if lengths.len() > literals + distances {
        return Err("found more lengths than symbols".into());
    }
    Ok((Code::of(&lengths[..literals]), Code::of(&lengths[literals..])))
}
