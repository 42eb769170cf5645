//! A protobuf message as a tree, so that it can be changed inside and is whole again:
//! lengths around a change are made right.
//!
//! What a field's bytes are, only the schema says; here they count as a message if
//! they can be read as one.

use super::{EXTREMES, Mutator, varint};

/// Messages within messages, at most.
const DEPTH_MAX: usize = 4;
/// Copies of a field, at most.
const COPIES_MAX: usize = 3000;

/// Fields in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tree(Vec<Field>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    number: u64,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    /// Eight bytes, or four.
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    Tree(Tree),
}

impl Tree {
    /// Reads a message.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        Self::read_within(bytes, DEPTH_MAX)
    }

    fn read_within(mut bytes: &[u8], depth: usize) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = take_number(&mut bytes)?;
            let value = match key & 7 {
                0 => Value::Number(take_number(&mut bytes)?),
                1 => Value::Fixed(take(&mut bytes, 8)?.to_vec()),
                2 => {
                    let length = usize::try_from(take_number(&mut bytes)?).ok()?;
                    let inner = take(&mut bytes, length)?;
                    let below = depth.checked_sub(1).filter(|_| !inner.is_empty());
                    match below.and_then(|below| Self::read_within(inner, below)) {
                        Some(tree) => Value::Tree(tree),
                        None => Value::Bytes(inner.to_vec()),
                    }
                }
                5 => Value::Fixed(take(&mut bytes, 4)?.to_vec()),
                _ => return None,
            };
            fields.push(Field { number: key >> 3, value });
        }
        Some(Self(fields))
    }

    /// The message's bytes.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for Field { number, value } in &self.0 {
            let (kind, content) = match value {
                Value::Number(value) => (0, varint(*value)),
                Value::Fixed(fixed) => (if fixed.len() == 8 { 1 } else { 5 }, fixed.clone()),
                Value::Bytes(inner) => (2, sized(inner)),
                Value::Tree(tree) => (2, sized(&tree.write())),
            };
            bytes.extend(varint(number << 3 | kind));
            bytes.extend(content);
        }
        bytes
    }

    /// Changes one field, somewhere.
    pub(super) fn change(&mut self, mutator: &mut Mutator) {
        let Some(place) = mutator.below(self.0.len() + 1).checked_sub(1) else {
            let (number, value) = (1 + mutator.below(16) as u64, Value::Bytes(Vec::new()));
            return self.0.push(Field { number, value });
        };
        if let Value::Tree(tree) = &mut self.0[place].value
            && 0 < mutator.below(4)
        {
            return tree.change(mutator);
        }
        match mutator.below(5) {
            0 => drop(self.0.remove(place)),
            1 => {
                let copies = [1, 20, COPIES_MAX][mutator.below(3)];
                let copies = vec![self.0[place].clone(); 1 + mutator.below(copies)];
                self.0.splice(place..place, copies);
            }
            2 => self.0[place].number = 1 + mutator.below(16) as u64,
            _ => self.0[place].value.change(mutator),
        }
    }
}

impl Value {
    fn change(&mut self, mutator: &mut Mutator) {
        let extreme = EXTREMES[mutator.below(EXTREMES.len())];
        match self {
            Self::Number(number) => {
                let near = number.wrapping_add(mutator.below(3) as u64).wrapping_sub(1);
                *number = if mutator.below(2) == 0 { near } else { extreme };
            }
            Self::Fixed(bytes) if mutator.below(2) == 0 => {
                // Numbers that are none, or have no end, begin so.
                let infinite = [f64::NAN, f64::INFINITY, -1.0, 1e300][mutator.below(4)];
                let width = bytes.len();
                *bytes = infinite.to_be_bytes()[..width].iter().rev().copied().collect();
            }
            Self::Fixed(bytes) => mutator.change(bytes, &[Vec::new()], Length::Kept),
            Self::Bytes(bytes) => mutator.change(bytes, &[Vec::new()], Length::Free),
            Self::Tree(_) => *self = Self::Number(extreme),
        }
    }
}

/// Whether a change may make bytes longer or shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Kept,
    Free,
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = *take(bytes, 1)? else { return None };
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    bytes.split_off(..count)
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [varint(bytes.len() as u64), bytes.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::control::said;

    #[test]
    fn messages_are_written_as_they_were_read() {
        for message in said() {
            let bytes = message.encode_to_vec();
            assert_eq!(Tree::read(&bytes).unwrap().write(), bytes);
        }
        assert_eq!(Tree::read(&[0x0a, 5, 1]), None, "it ends early");
    }

    #[test]
    fn most_changed_messages_can_be_read_and_some_lists_grow_long() {
        use proto::control::wire::FromWorker;

        let corpus: Vec<_> = said().iter().map(FromWorker::encode_to_vec).collect();
        let mut mutator = Mutator::new(1);
        let changed = |mutator: &mut Mutator| {
            let mut tree = Tree::read(&corpus[mutator.below(corpus.len())]).unwrap();
            tree.change(mutator);
            tree.write()
        };
        let changed: Vec<_> = (0..2000).map(|_| changed(&mut mutator)).collect();

        let read = changed.iter().filter(|bytes| FromWorker::decode(&bytes[..]).is_ok());
        assert!(1000 < read.count());
        assert!(changed.iter().any(|bytes| 1000 < bytes.len()));
    }
}
