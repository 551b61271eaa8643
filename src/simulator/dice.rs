//! Seeded random numbers: one seed produces the same ones on every machine and in every version.
//!
//! Not from a crate, because the sequence is a promise that crates do not make.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn of(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to `end` - 1; the bias is below `end` / 2^64.
    pub fn below_u64(&mut self, end: u64) -> u64 {
        ((u128::from(self.roll()) * u128::from(end)) >> 64) as u64
    }

    pub fn below(&mut self, end: u32) -> u32 {
        self.below_u64(u64::from(end)) as u32
    }

    /// 0 to `end` - 1, small numbers more often: the smaller of two rolls.
    pub fn few(&mut self, end: u32) -> u32 {
        self.below(end).min(self.below(end))
    }

    /// Mean 0, standard deviation 1, nearly normal: the sum of twelve uniform numbers, from 16 bits each.
    pub fn normal(&mut self) -> f64 {
        let mut sum = 0u64;
        for _ in 0..3 {
            let roll = self.roll();
            sum += (0..4).map(|part| roll >> (16 * part) & 0xFFFF).sum::<u64>();
        }
        sum as f64 / 65_536.0 - 6.0
    }
}
