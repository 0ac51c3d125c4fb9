//! isolation forest
