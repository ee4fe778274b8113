//! The device's money: its key's export and import, vouchers, where earnings go, what the chain says of the hub's wallet,
//! and claims, which it signs when its owner asks for one and others bring there. It moves nothing by itself.

pub mod claim;
pub mod keystore;
pub mod payee;
pub(crate) mod present;
pub mod reader;
pub mod voucher;
