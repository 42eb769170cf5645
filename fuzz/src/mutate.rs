//! Damage to valid input, the same for the same seed.
//!
//! A case takes a message of the corpus and changes it a few times: bits, bytes,
//! numbers set to their extremes, parts cut out, repeated, or put in from another
//! message. Half of the places lie near the beginning, where lengths and heads are.

/// Numbers that lengths and counts are set to.
const EXTREMES: [u64; 8] =
    [0, 1, 0x7f, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];
/// Bytes in which half of the places lie.
const HEAD_BYTES: usize = 256;
/// Changes of a case, at most.
const CHANGES_MAX: usize = 6;
/// How often a part is repeated, at most.
const REPEATS_MAX: usize = 64;

/// Draws cases.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// Cases of this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(2).wrapping_add(1) }
    }

    /// A damaged message of at most so many bytes.
    pub fn case(&mut self, corpus: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(&mut bytes, corpus);
            bytes.truncate(bytes_max);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let place = self.place(bytes.len());
        match self.below(9) {
            0 if place < bytes.len() => bytes[place] ^= 1 << self.below(8),
            1 if place < bytes.len() => bytes[place] = self.byte(),
            2 => self.set_number(bytes, place),
            3 => bytes.truncate(place),
            4 => drop(bytes.drain(place..self.end(bytes.len(), place))),
            5 => {
                let part = bytes[place..self.end(bytes.len(), place)].to_vec();
                let repeated = part.repeat(1 + self.below(REPEATS_MAX));
                bytes.splice(place..place, repeated);
            }
            6 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.place(other.len());
                let part = other[from..self.end(other.len(), from)].to_vec();
                bytes.splice(place..place, part);
            }
            7 => {
                let varint = varint(EXTREMES[self.below(EXTREMES.len())]);
                bytes.splice(place..place, varint);
            }
            _ => {
                let byte = self.byte();
                bytes.insert(place, byte);
            }
        }
    }

    /// Writes a number over what is there, in either order of its bytes.
    fn set_number(&mut self, bytes: &mut [u8], place: usize) {
        let width = [1, 2, 4, 8][self.below(4)];
        let number = EXTREMES[self.below(EXTREMES.len())].to_le_bytes();
        let mut number = number[..width].to_vec();
        if self.below(2) == 0 {
            number.reverse();
        }
        for (byte, value) in bytes[place..].iter_mut().zip(number) {
            *byte = value;
        }
    }

    /// A place from 0 to `length`.
    fn place(&mut self, length: usize) -> usize {
        match self.below(2) {
            0 => self.below(length.min(HEAD_BYTES) + 1),
            _ => self.below(length + 1),
        }
    }

    /// The end of a part that begins at `place`; most parts are short.
    fn end(&mut self, length: usize, place: usize) -> usize {
        let longest = [8, 64, length][self.below(3)];
        place + self.below(longest.min(length - place) + 1)
    }

    fn byte(&mut self) -> u8 {
        let [byte, ..] = self.next().to_le_bytes();
        byte
    }

    /// A number from 0 to below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        let end = end as u64;
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    /// Xorshift64*, Vigna 2016.
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }
}

/// A number as protobuf writes it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low & 0x7f);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_draws_the_same_cases_and_they_differ_from_the_corpus() {
        let corpus = vec![vec![7; 300], b"abc".to_vec(), Vec::new()];
        let cases = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..500).map(|_| mutator.case(&corpus, 400)).collect::<Vec<_>>()
        };

        assert_eq!(cases(1), cases(1));
        assert_ne!(cases(1), cases(2));
        let damaged = cases(1).into_iter().filter(|case| !corpus.contains(case));
        assert!(400 < damaged.inspect(|case| assert!(case.len() <= 400)).count());
    }

    #[test]
    fn varints_are_those_of_protobuf() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(300), [0xac, 2]);
        assert_eq!(varint(u64::MAX), [[0xff; 9].as_slice(), &[1]].concat());
    }
}
