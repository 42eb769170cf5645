//! The stack machine: one method per group of opcodes.
//!
//! Charged to the budget are values, entries of containers, axes of tensors and
//! memo entries. A pickle that shares nothing makes at most three per byte: a
//! value, its memo entry, and its place in one container; its place in an
//! `OrderedDict` was one in a list, which is two bytes, before.
//!
//! Errors are what is refused or damaged, as a phrase for a message.

use std::{collections::BTreeMap, rc::Rc};

use super::{Global, Id, Storage, TensorRef, Value};
use crate::{
    Dtype,
    formats::{AXES_MAX, NAME_BYTES_MAX, StoredDtype},
};

/// Most that any pickle may hold. A tensor takes some sixty, so this is room for
/// thirty thousand of them.
const HELD_MAX: usize = 1 << 21;
/// Most that a pickle may hold per byte, see above.
const HELD_PER_BYTE_MAX: usize = 4;
const STACK_MAX: usize = 1 << 20;
const MARKS_MAX: usize = 1 << 10;

#[derive(Default)]
pub(super) struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Stack heights at the marks.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
    /// How much more may be held.
    budget: usize,
}

impl Machine<'_> {
    /// Interprets `bytes`: all values, and which of them is the result.
    pub(super) fn run(bytes: &[u8]) -> Result<(Vec<Value>, Id), String> {
        let budget = HELD_MAX.min(bytes.len().saturating_mul(HELD_PER_BYTE_MAX));
        let mut machine = Machine { rest: bytes, budget, ..Machine::default() };
        loop {
            let opcode = machine.byte()?;
            if opcode == b'.' {
                let root = machine.pop()?;
                return Ok((machine.values, root));
            }
            machine.step(opcode)?;
            if STACK_MAX < machine.stack.len() {
                return Err(TOO_MUCH.into());
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            0x80 => self.protocol(),
            0x95 => self.take(8).map(|_| ()),
            b'(' => self.mark(),
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool),
            b'K' | b'M' | b'J' | 0x8a => self.integer(opcode),
            b'G' => {
                self.take(8)?;
                self.push(Value::Float)
            }
            b'X' | 0x8c | 0x8d => self.text(opcode),
            b'}' => self.push(Value::Dict(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' | 0x85..=0x87 => self.tuple(opcode),
            b's' | b'u' => self.set_items(opcode),
            b'a' | b'e' => self.append(opcode),
            b'q' | b'r' | 0x94 => self.memoize(opcode),
            b'h' | b'j' => self.recall(opcode),
            b'c' | 0x93 => self.global(opcode),
            b'Q' => self.persistent(),
            b'R' => self.reduce(),
            b'b' => self.build(),
            _ => Err(format!("opcode 0x{opcode:02x} {}", name_of(opcode))),
        }
    }

    fn protocol(&mut self) -> Result<(), String> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(format!("pickle protocol {other}")),
        }
    }

    fn mark(&mut self) -> Result<(), String> {
        if MARKS_MAX <= self.marks.len() {
            return Err("the pickle is nested deeper than any checkpoint".into());
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn integer(&mut self, opcode: u8) -> Result<(), String> {
        let value = match opcode {
            b'K' => i64::from(self.byte()?),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            _ => {
                let length = usize::from(self.byte()?);
                let bytes = self.take(length)?;
                let negative = bytes.last().is_some_and(|byte| 0x7f < *byte);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                let Some(low) = wide.get_mut(..length) else {
                    return Err(format!("an integer of {length} bytes"));
                };
                low.copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            }
        };
        self.push(Value::Int(value))
    }

    fn text(&mut self, opcode: u8) -> Result<(), String> {
        let length = match opcode {
            b'X' => u64::from(u32::from_le_bytes(self.array()?)),
            0x8c => u64::from(self.byte()?),
            _ => u64::from_le_bytes(self.array()?),
        };
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        let text = std::str::from_utf8(bytes).map_err(|_| "text that is not UTF-8")?;
        self.push(Value::Text(text.into()))
    }

    fn tuple(&mut self, opcode: u8) -> Result<(), String> {
        let items = match opcode {
            b't' => self.pop_to_mark()?,
            _ => {
                let count = usize::from(opcode - 0x84);
                let floor = self.marks.last().copied().unwrap_or(0);
                let start = self.stack.len().checked_sub(count).filter(|&start| floor <= start);
                self.stack.split_off(start.ok_or(UNDERFLOW)?)
            }
        };
        self.push(Value::Tuple(items))
    }

    fn set_items(&mut self, opcode: u8) -> Result<(), String> {
        let items = match opcode {
            b'u' => self.pop_to_mark()?,
            _ => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
        };
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err("a dictionary with a key but no value".into());
        };
        self.charge(pairs.len())?;
        let target = *self.stack.last().ok_or(UNDERFLOW)?;
        let Value::Dict(entries) = &mut self.values[target.0] else {
            return Err(format!("items set on {}", kind(&self.values[target.0])));
        };
        entries.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    fn append(&mut self, opcode: u8) -> Result<(), String> {
        let items = match opcode {
            b'e' => self.pop_to_mark()?,
            _ => vec![self.pop()?],
        };
        self.charge(items.len())?;
        let target = *self.stack.last().ok_or(UNDERFLOW)?;
        let Value::List(list) = &mut self.values[target.0] else {
            return Err(format!("items appended to {}", kind(&self.values[target.0])));
        };
        list.extend(items);
        Ok(())
    }

    fn memoize(&mut self, opcode: u8) -> Result<(), String> {
        let key = match opcode {
            b'q' => u32::from(self.byte()?),
            b'r' => u32::from_le_bytes(self.array()?),
            _ => u32::try_from(self.memo.len()).map_err(|_| "a memo without end")?,
        };
        let top = *self.stack.last().ok_or(UNDERFLOW)?;
        self.memo.insert(key, top);
        self.charge(1)
    }

    fn recall(&mut self, opcode: u8) -> Result<(), String> {
        let key = match opcode {
            b'h' => u32::from(self.byte()?),
            _ => u32::from_le_bytes(self.array()?),
        };
        let id = *self.memo.get(&key).ok_or("a value that was never stored")?;
        self.stack.push(id);
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<(), String> {
        let (module, name): (Rc<str>, Rc<str>) = match opcode {
            b'c' => (self.line()?.into(), self.line()?.into()),
            _ => {
                let name = self.pop_text()?;
                (self.pop_text()?, name)
            }
        };
        if NAME_BYTES_MAX < module.len() + name.len() {
            return Err("a class or function with a name without end".into());
        }
        let global = match (&*module, &*name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", storage) if storage_class(storage).is_some() => {
                let (dtype, width) = storage_class(storage).expect("checked just above");
                Global::Storage(dtype, width)
            }
            _ => return Err(format!("class or function `{module}.{name}`")),
        };
        self.push(Value::Global(global))
    }

    /// A reference to a storage: `("storage", class, key, device, elements)`.
    fn persistent(&mut self) -> Result<(), String> {
        let malformed = "a persistent id that is no storage";
        let id = self.pop()?;
        let Value::Tuple(items) = &self.values[id.0] else { return Err(malformed.into()) };
        let &[tag, class, key, _device, elements] = items.as_slice() else {
            return Err(malformed.into());
        };
        let storage = match [tag, class, key, elements].map(|id| &self.values[id.0]) {
            [
                Value::Text(tag),
                Value::Global(Global::Storage(dtype, width)),
                Value::Text(key),
                Value::Int(elements),
            ] if &**tag == "storage" && key.len() <= NAME_BYTES_MAX => Storage {
                dtype: dtype.clone(),
                width: *width,
                key: Rc::clone(key),
                elements: usize::try_from(*elements).map_err(|_| malformed)?,
            },
            _ => return Err(malformed.into()),
        };
        self.push(Value::Storage(Rc::new(storage)))
    }

    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let Value::Tuple(arguments) = &self.values[arguments.0] else {
            return Err("a call without arguments".into());
        };
        let Value::Global(global) = &self.values[callable.0] else {
            return Err(format!("a call of {}", kind(&self.values[callable.0])));
        };
        let made = match global {
            Global::OrderedDict => self.ordered_dict(arguments)?,
            Global::RebuildTensor => self.tensor(arguments)?,
            Global::RebuildParameter => match arguments.first().map(|id| &self.values[id.0]) {
                Some(Value::Tensor(tensor)) => Value::Tensor(Rc::clone(tensor)),
                _ => return Err("a parameter that is no tensor".into()),
            },
            Global::Storage(..) => return Err("a storage outside a persistent id".into()),
        };
        self.push(made)
    }

    fn ordered_dict(&self, arguments: &[Id]) -> Result<Value, String> {
        let pairs = match arguments {
            [] => return Ok(Value::Dict(Vec::new())),
            [list] => self.items(*list),
            _ => None,
        };
        let pair = |id: &Id| match self.items(*id) {
            Some(&[key, value]) => Some((key, value)),
            _ => None,
        };
        let entries = pairs.and_then(|pairs| pairs.iter().map(pair).collect());
        entries.map(Value::Dict).ok_or_else(|| "an OrderedDict of something else than pairs".into())
    }

    fn tensor(&self, arguments: &[Id]) -> Result<Value, String> {
        let [storage, offset, shape, strides, ..] = arguments else {
            return Err("a tensor with too few arguments".into());
        };
        let (Value::Storage(storage), Value::Int(offset)) =
            (&self.values[storage.0], &self.values[offset.0])
        else {
            return Err("a tensor without storage or offset".into());
        };
        let (shape, strides) = (self.sizes(*shape)?, self.sizes(*strides)?);
        if shape.len() != strides.len() {
            return Err(format!("a tensor of sizes {shape:?} and strides {strides:?}"));
        }
        let offset = usize::try_from(*offset).map_err(|_| "a tensor with a negative offset")?;
        let storage = Rc::clone(storage);
        Ok(Value::Tensor(Rc::new(TensorRef { storage, offset, shape, strides })))
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>, String> {
        let items = self.items(id).filter(|items| items.len() <= AXES_MAX);
        let size = |id: &Id| {
            let Value::Int(size) = self.values[id.0] else { return None };
            usize::try_from(size).ok()
        };
        items
            .and_then(|items| items.iter().map(size).collect())
            .ok_or_else(|| format!("a tensor whose sizes are not up to {AXES_MAX} counts"))
    }

    fn items(&self, id: Id) -> Option<&[Id]> {
        let (Value::Tuple(items) | Value::List(items)) = &self.values[id.0] else { return None };
        Some(items)
    }

    /// Attributes of a dictionary (torch keeps module versions there).
    fn build(&mut self) -> Result<(), String> {
        self.pop()?;
        let target = *self.stack.last().ok_or(UNDERFLOW)?;
        if !matches!(self.values[target.0], Value::Dict(_)) {
            return Err(format!("attributes set on {}", kind(&self.values[target.0])));
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        self.charge(1 + value.entries())?;
        self.stack.push(Id(self.values.len()));
        self.values.push(value);
        Ok(())
    }

    /// Takes `count` from the budget.
    fn charge(&mut self, count: usize) -> Result<(), String> {
        self.budget = self.budget.checked_sub(count).ok_or(TOO_MUCH)?;
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(id) if floor <= self.stack.len() => Ok(id),
            Some(_) | None => Err(UNDERFLOW.into()),
        }
    }

    fn pop_text(&mut self) -> Result<Rc<str>, String> {
        let id = self.pop()?;
        let Value::Text(text) = &self.values[id.0] else {
            return Err(format!("{} as a name", kind(&self.values[id.0])));
        };
        Ok(Rc::clone(text))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("a list without a beginning")?;
        Ok(self.stack.split_off(mark))
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], String> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(*array)
    }
}

impl<'a> Machine<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let length = self.rest.iter().position(|&byte| byte == b'\n').ok_or(TRUNCATED)?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "a name that is not UTF-8".into())
    }
}

const UNDERFLOW: &str = "a pickle that takes more than it has";
const TRUNCATED: &str = "a truncated pickle";
const TOO_MUCH: &str = "a pickle that holds more than any checkpoint of its length";

/// Element type and width of a storage class of the `torch` module.
fn storage_class(name: &str) -> Option<(StoredDtype, usize)> {
    let known = |dtype: Dtype| Some((StoredDtype::Known(dtype), dtype.bytes()));
    let other = |name: &str, width| Some((StoredDtype::Other(name.to_owned()), width));
    match name {
        "FloatStorage" => known(Dtype::F32),
        "HalfStorage" => known(Dtype::F16),
        "BFloat16Storage" => known(Dtype::Bf16),
        "DoubleStorage" => known(Dtype::F64),
        "LongStorage" => other("I64", 8),
        "IntStorage" => other("I32", 4),
        "ShortStorage" => other("I16", 2),
        "CharStorage" => other("I8", 1),
        "ByteStorage" => other("U8", 1),
        "BoolStorage" => other("BOOL", 1),
        _ => None,
    }
}

/// Python's name of an opcode that is refused, where it is a known one.
fn name_of(opcode: u8) -> &'static str {
    match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        0x82..=0x84 => "EXT",
        b'P' => "PERSID",
        b'B' | b'C' | 0x8e | 0x96 => "BINBYTES",
        b'T' | b'U' | b'S' => "STRING",
        0x8f..=0x91 => "SET",
        b'0'..=b'2' => "POP or DUP",
        b'F' | b'I' | b'L' | b'V' | b'd' | b'g' | b'l' | b'p' => "of protocol 0",
        _ => "(unknown)",
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::None => "None",
        Value::Bool => "a bool",
        Value::Int(_) => "an integer",
        Value::Float => "a float",
        Value::Text(_) => "a text",
        Value::Tuple(_) => "a tuple",
        Value::List(_) => "a list",
        Value::Dict(_) => "a dictionary",
        Value::Global(_) => "a class or function",
        Value::Storage(_) => "a storage",
        Value::Tensor(_) => "a tensor",
    }
}
