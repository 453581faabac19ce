//! Fourier transforms.

pub mod vertical;
