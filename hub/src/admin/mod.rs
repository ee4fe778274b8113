//! What admins and operators do to people, owners, devices and the books; the REST interface and the commands
//! both come here.
//!
//! Every change is one transaction, and what follows from it happens after the commit. It must never know who
//! asks: whether they may is decided before.

mod credit;
mod devices;
mod joining;
mod users;

pub use credit::grant_credit;
pub(crate) use devices::read_labels;
pub use devices::{approve, drain, label, revoke};
pub use joining::{Joining, admit_owner, create_join_token, owners_of, template};
pub use users::{Access, add_user, hash_token, remove_user, renew_token};
