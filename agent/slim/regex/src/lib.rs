//! `regex-lite` under the name of `regex`, for the libraries that ask for the latter: their patterns are short, match
//! ASCII only, and do not need the half megabyte of automata and Unicode tables that come with it.

pub use regex_lite::*;
