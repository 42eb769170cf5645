//! Damage to valid input, the same for the same seed.
//!
//! A case takes a message of the corpus and changes it a few times: bits, bytes,
//! numbers set to their extremes, parts cut out, repeated, or put in from another
//! message. Half of the places lie near the beginning, where lengths and heads are.
//!
//! A protobuf message that is changed so is mostly no message any more. So half of
//! the changes are made inside of it, and leave it whole: fields are set, left out,
//! renamed, or repeated by the thousand.

mod tree;

use tree::{Length, Tree};

use crate::frames;

/// Numbers that lengths and counts are set to.
const EXTREMES: [u64; 8] =
    [0, 1, 0x7f, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];
/// Bytes in which half of the places lie.
const HEAD_BYTES: usize = 256;
/// Changes of a case, at most.
const CHANGES_MAX: usize = 6;
/// How often a part is repeated, at most.
const REPEATS_MAX: usize = 64;

/// What input is, which says how it can be changed and stay whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Bytes.
    Bytes,
    /// A protobuf message.
    Message,
    /// Protobuf messages, framed.
    Frames,
}

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

    /// A damaged input of at most so many bytes.
    pub fn case(&mut self, shape: Shape, corpus: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        // Few changes mostly: what is damaged in many places is refused at the first.
        for _ in 0..=self.below(CHANGES_MAX).min(self.below(CHANGES_MAX)) {
            let whole = if self.below(2) == 0 { self.inside(shape, &bytes) } else { None };
            match whole {
                Some(whole) => bytes = whole,
                None => self.change(&mut bytes, corpus, Length::Free),
            }
            bytes.truncate(bytes_max);
        }
        bytes
    }

    /// The input with another message in it, if it is of whole ones.
    pub fn inside(&mut self, shape: Shape, bytes: &[u8]) -> Option<Vec<u8>> {
        match shape {
            Shape::Bytes => None,
            Shape::Message => {
                let mut tree = Tree::read(bytes)?;
                tree.change(self);
                Some(tree.write())
            }
            Shape::Frames => {
                let mut all = frames::split_all(bytes)?;
                let place = self.below(all.len());
                let mut tree = Tree::read(all.get(place)?)?;
                match self.below(4) {
                    0 => {
                        let from = self.below(all.len());
                        all.insert(place, all[from].clone());
                    }
                    1 if 1 < all.len() => drop(all.remove(place)),
                    _ => {
                        tree.change(self);
                        all[place] = tree.write();
                    }
                }
                Some(frames::join(all))
            }
        }
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>], length: Length) {
        let place = self.place(bytes.len());
        let ways = if length == Length::Kept { 3 } else { 9 };
        match self.below(ways) {
            0 | 1 if place == bytes.len() => {}
            0 => bytes[place] ^= 1 << self.below(8),
            1 => bytes[place] = self.byte(),
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

    /// A number from 0 to below `end`; 0 if that is 0.
    fn below(&mut self, end: usize) -> usize {
        let end = (end as u64).max(1);
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
            (0..500).map(|_| mutator.case(Shape::Bytes, &corpus, 400)).collect::<Vec<_>>()
        };

        assert_eq!(cases(1), cases(1));
        assert_ne!(cases(1), cases(2));
        let damaged = cases(1).into_iter().filter(|case| !corpus.contains(case));
        assert!(250 < damaged.inspect(|case| assert!(case.len() <= 400)).count());
    }

    #[test]
    fn varints_are_those_of_protobuf() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(300), [0xac, 2]);
        assert_eq!(varint(u64::MAX), [[0xff; 9].as_slice(), &[1]].concat());
    }
}
