//! A second engine of `ndshare.net`: the part of the module `zenoh` that it uses, over Zenoh's own crate.
//!
//! It differs from eclipse-zenoh in two things: a payload is sent out of the buffers of Python as they are, and what
//! comes goes from its fragments into a buffer of Python by one copy.

mod kept;
mod message;
mod payload;
mod session;

use pyo3::prelude::*;

/// The module `ndshare_zenoh`.
#[pymodule]
mod ndshare_zenoh {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::{
        kept::ZError,
        message::{
            CongestionControl, ConsolidationMode, Priority, Query, QueryTarget, Reliability, Reply, ReplyError, Sample,
            SampleKind,
        },
        payload::ZBytes,
        session::{
            Config, Declared, Liveliness, LivelinessToken, MatchingStatus, Publisher, Session, SessionInfo, open,
        },
    };

    /// What Zenoh's threads call.
    #[pymodule]
    mod handlers {
        #[pymodule_export]
        use crate::kept::Callback;
    }
}
