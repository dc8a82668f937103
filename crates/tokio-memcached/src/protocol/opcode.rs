//! What is asked ("Command Opcodes").

/// A command. Those ending in `Quiet` are answered only when there is something to say: a value, or a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// Return a value.
    Get = 0x00,
    /// Store a value.
    Set = 0x01,
    /// Store a value where there is none.
    Add = 0x02,
    /// Store a value where there is one.
    Replace = 0x03,
    /// Remove a value.
    Delete = 0x04,
    /// Add to a number.
    Increment = 0x05,
    /// Subtract from a number.
    Decrement = 0x06,
    /// Remove all values.
    Flush = 0x08,
    /// Return a value, if there is one.
    GetQuiet = 0x09,
    /// Do nothing; answered when all before it are.
    Noop = 0x0a,
    /// Return the server's version.
    Version = 0x0b,
    /// Put bytes behind a value.
    Append = 0x0e,
    /// Put bytes before a value.
    Prepend = 0x0f,
    /// Return the server's statistics.
    Stat = 0x10,
    /// Store a value.
    SetQuiet = 0x11,
    /// Remove a value.
    DeleteQuiet = 0x14,
    /// Change a value's lifetime.
    Touch = 0x1c,
    /// Log in ("SASL authentication").
    SaslAuth = 0x21,
}
