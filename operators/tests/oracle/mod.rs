//! Made-up input, the real operators on it, and what must come out.

#![allow(dead_code, reason = "each test program uses its share")]

pub mod cut;
pub mod life;
pub mod naive;
pub mod product;
pub mod script;
pub mod settings;
pub mod usual;
