//! Why a checkpoint cannot be used.
//!
//! Every variant names the file; those about tensors also name the tensor, what
//! was expected and what was found. All of them are faults of the input, never
//! of the program: the reader mends the folder or names another one.

use crate::Part;

/// Result of everything that reads a checkpoint.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum Error {
    /// A file could not be opened or mapped.
    #[error("{file}: {cause}")]
    Io { file: String, cause: std::io::Error },
    /// A file that is parsed whole is larger than any of its kind.
    #[error(
        "{file}: {bytes} bytes are absurd for {what}, at most {bytes_max} are read: \
         put the model's own file there"
    )]
    TooLarge { file: String, what: &'static str, bytes: usize, bytes_max: usize },
    /// Nothing in the folder belongs to a model.
    #[error(
        "{source_name}: no model here: looked for transformer/config.json, vae/config.json, \
         text_encoder/config.json and config.json, name the folder that has them"
    )]
    NoModel { source_name: String },
    /// The asked part is not there. Other parts may be.
    #[error("{source_name}: the {part} is missing: looked for {looked_for}, put one of them there")]
    NoPart { source_name: String, part: Part, looked_for: String },
    /// A part has a configuration but no (or no unique) weight file.
    #[error("{folder}: {problem}")]
    NoWeights { folder: String, problem: String },
    /// A configuration file is not what its family prescribes.
    #[error("{file}: {problem}")]
    Json { file: String, problem: String },
    /// A field of a configuration has an impossible or unsupported value.
    #[error("{file}: field `{field}`: {problem}")]
    Config { file: String, field: String, problem: String },
    /// A weight file is truncated or damaged. Fetch it again.
    #[error("{file}: {problem}")]
    Corrupt { file: String, problem: String },
    /// A pickle wants something that plain weights never need.
    #[error("{file}: refused: {problem}; only tensors and plain containers are read")]
    Refused { file: String, problem: String },
    /// The index names a weight file that is not there.
    #[error("{file}: missing, but {index} says that it holds `{tensor}`: put it there")]
    NoShard { file: String, index: String, tensor: String },
    /// A tensor the configuration calls for is in none of the weight files.
    #[error(
        "{file}: tensor `{tensor}` is missing, expected shape {expected:?}: \
         take weights and configuration of one model, whole"
    )]
    NoTensor { file: String, tensor: String, expected: Vec<usize> },
    /// A tensor contradicts the configuration.
    #[error(
        "{file}: tensor `{tensor}`: expected shape {expected:?}, found {found:?}: \
         take weights and configuration of one model"
    )]
    Shape { file: String, tensor: String, expected: Vec<usize>, found: Vec<usize> },
    /// A tensor has an element type that cannot be computed with.
    #[error(
        "{file}: tensor `{tensor}`: expected F32, F16, BF16 or F64, found {found}: \
         convert it to one of them"
    )]
    Dtype { file: String, tensor: String, found: String },
    /// A tensor holds NaN or infinity. Fetch its file again.
    #[error(
        "{file}: tensor `{tensor}` holds values that are no numbers: \
         the file is damaged, fetch it again"
    )]
    NotFinite { file: String, tensor: String },
    /// The files hold more layers or units than the configuration says.
    #[error(
        "{file}: tensor `{tensor}` {found:?} has no place in the configured model ({count} such): \
         take weights and configuration of one model"
    )]
    Contradicts { file: String, tensor: String, found: Vec<usize>, count: usize },
    /// The files hold tensors the configuration knows nothing of.
    #[error(
        "{file}: tensor `{tensor}` {found:?} is not part of the configured model ({count} such): \
         leave it out"
    )]
    Surplus { file: String, tensor: String, found: Vec<usize>, count: usize },
    /// The tensors of a latent attention layer cannot be told apart safely.
    #[error("{file}: layer {layer}: {problem}")]
    Ambiguous { file: String, layer: usize, problem: String },
    /// More layers were asked for than there are.
    #[error(
        "{file}: layers {start}..{end} were asked for, the model has 0..{layers}: \
         ask for some of them"
    )]
    Layers { file: String, start: usize, end: usize, layers: usize },
    /// The list of a fetched model's content contradicts itself.
    #[error("{model}: no list of a model's content: {problem}: fetch it from another node")]
    List { model: String, problem: String },
    /// The list or the configuration of a fetched model is of another one.
    #[error(
        "{model}: what was fetched makes the model {found}: fetch list and configuration again, \
         from another node"
    )]
    OtherModel { model: String, found: types::ModelDigest },
}
