//! The device's money: its key's export and import, vouchers, where earnings go, and claims on a chain, which it signs
//! when its owner asks for one and others bring there. It moves nothing by itself.

pub mod claim;
pub mod keystore;
pub mod payee;
pub(crate) mod present;
pub mod voucher;
