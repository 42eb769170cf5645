//! What administrators ask for: calls, each with a number before its message.

use identity::TokenId;
use prost::Message;
use proto::generated::admin::{
    CreateTokenRequest, DrainRequest, ListTokensRequest, RevokeTokenRequest,
};

use crate::{Target, frames::decoded, mutate::Shape};

/// A call of the service, whose first byte says which one.
pub(crate) const ADMIN: Target = Target {
    name: "admin",
    shape: Shape::Bytes,
    decode: admin,
    seeds: || {
        let id = "0102030405060708".to_owned();
        let calls = [
            CreateTokenRequest { uses: Some(1), ttl_seconds: Some(3600) }.encode_to_vec(),
            ListTokensRequest { after_id: id.clone() }.encode_to_vec(),
            RevokeTokenRequest { id }.encode_to_vec(),
            DrainRequest { worker: "attic".to_owned() }.encode_to_vec(),
        ];
        let numbered = (0u8..).zip(calls);
        numbered.map(|(number, call)| [&[number], &call[..]].concat()).collect()
    },
    input_bytes_max: 1 << 10,
    held_bytes: 16 << 10,
    held_per_byte: 8,
    cases: 6_000,
};

fn admin(bytes: &[u8]) -> Result<(), String> {
    let (call, message) = bytes.split_first().ok_or("no call")?;
    match call % 4 {
        0 => decoded::<CreateTokenRequest>(message).map(drop),
        1 => {
            let ListTokensRequest { after_id } = decoded(message)?;
            if after_id.is_empty() { Ok(()) } else { token_id(&after_id) }
        }
        2 => token_id(&decoded::<RevokeTokenRequest>(message)?.id),
        // A name or an id, compared with those that are here.
        _ => decoded::<DrainRequest>(message).map(drop),
    }
}

fn token_id(text: &str) -> Result<(), String> {
    text.parse::<TokenId>().map(drop).map_err(|error| error.to_string())
}
