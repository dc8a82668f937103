//! The binary protocol without any I/O: bytes to values and back (memcached wiki, `BinaryProtocolRevamped`; section
//! names below are its).

pub mod header;
pub mod opcode;
pub mod request;
pub mod response;
pub mod status;

pub use self::opcode::Opcode;
pub use self::request::{Expiration, Request};
pub use self::response::{Malformed, Response, decode};
pub use self::status::Status;
