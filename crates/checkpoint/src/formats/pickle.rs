//! An interpreter for the pickles inside torch files, and for nothing else.
//!
//! A pickle is a program for a stack machine that may call any Python function
//! it names. This machine runs no code: the functions it accepts are the three
//! below, which it knows itself, and every other name, opcode or kind of object
//! is refused with its name.
//!
//! | name | becomes |
//! |---|---|
//! | `collections.OrderedDict` | a dictionary; its attributes are dropped |
//! | `torch._utils._rebuild_tensor_v2` | a tensor: storage, offset, sizes, strides |
//! | `torch._utils._rebuild_parameter` | the tensor it wraps |
//! | `torch.FloatStorage` and siblings | an element type |
//!
//! Invariant: values live in one list and refer to each other by index, so a
//! value that contains itself does no harm. A call may copy the entries of its
//! arguments, and memoised arguments may be used again and again; therefore
//! everything that is kept is charged to one budget, a multiple of the pickle's
//! length. Memory grows at most with that length.
//!
//! Source: `Lib/pickletools.py` of CPython (opcodes); `torch/serialization.py`
//! and `torch/_utils.py` (persistent ids, tensors).

mod machine;

use std::rc::Rc;

use self::machine::Machine;
use super::StoredDtype;

/// A state dictionary of ten thousand tensors takes about 2 MB.
const PICKLE_BYTES_MAX: usize = 64 << 20;

/// What a pickle describes.
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

/// A value's place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(usize);

#[derive(Debug)]
pub(super) enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Text(Rc<str>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Rc<Storage>),
    Tensor(Rc<TensorRef>),
}

/// A Python name the machine knows.
#[derive(Clone, Debug)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(StoredDtype, usize),
}

/// Elements in an entry of the archive.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) dtype: StoredDtype,
    /// Bytes of one element.
    pub(super) width: usize,
    /// Name of the entry, in the archive's `data` folder.
    pub(super) key: Rc<str>,
    pub(super) elements: usize,
}

/// A tensor over a storage; offset and strides count elements.
#[derive(Debug)]
pub(super) struct TensorRef {
    pub(super) storage: Rc<Storage>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl Value {
    /// Entries and axes that this value holds.
    fn entries(&self) -> usize {
        match self {
            Self::Tuple(items) | Self::List(items) => items.len(),
            Self::Dict(pairs) => pairs.len(),
            Self::Tensor(tensor) => tensor.shape.len() + tensor.strides.len(),
            Self::None
            | Self::Bool
            | Self::Int(_)
            | Self::Float
            | Self::Text(_)
            | Self::Global(_)
            | Self::Storage(_) => 0,
        }
    }
}

impl Pickle {
    /// Interprets `bytes`.
    ///
    /// # Errors
    ///
    /// What is refused or damaged, for a message that names the file.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        if PICKLE_BYTES_MAX < bytes.len() {
            let found = bytes.len();
            return Err(format!("a pickle of {found} bytes, expected {PICKLE_BYTES_MAX} at most"));
        }
        let (values, root) = Machine::run(bytes)?;
        Ok(Self { values, root })
    }

    /// Values and their entries.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.values.iter().map(|value| 1 + value.entries()).sum()
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn value(&self, id: Id) -> &Value {
        &self.values[id.0]
    }

    /// The text keys of a dictionary with their values, in order; empty for
    /// anything else.
    pub(super) fn entries(&self, id: Id) -> impl Iterator<Item = (&str, Id)> {
        let pairs = if let Value::Dict(pairs) = self.value(id) { pairs.as_slice() } else { &[] };
        pairs.iter().filter_map(|(key, value)| {
            let Value::Text(key) = self.value(*key) else { return None };
            Some((&**key, *value))
        })
    }
}
