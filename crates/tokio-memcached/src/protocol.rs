//! The binary protocol without any I/O: bytes to values and back (memcached wiki, `BinaryProtocolRevamped`; section
//! names below are its).

mod opcode;
mod request;
mod response;
mod status;

pub use self::opcode::Opcode;
pub use self::request::{Expiration, Request};
pub use self::response::{HEADER, Malformed, Response, decode};
pub use self::status::Status;
