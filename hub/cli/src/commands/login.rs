//! `sosna login`: tries hub and token, and keeps them only if they work.

use sosna_api::{hub::HubInfo, route, user::User};

use crate::{
    args::LoginArgs,
    client::Hub,
    connect::{ConnectArgs, Credentials},
    error::Error,
    output,
};

pub(super) async fn login(connect: &ConnectArgs, args: &LoginArgs) -> Result<(), Error> {
    let mut connect = connect.clone();
    if args.url.is_some() {
        connect.hub.clone_from(&args.url);
    }
    let credentials = Credentials::find(&connect)?;
    if credentials.token.is_none() {
        let how = "give --token-file FILE with your token, or set SOSNA_TOKEN; the operator makes one with \
            `sosna-hub user add`";
        return Err(Error::Usage(how.to_owned()));
    }
    let hub = Hub::new(&credentials)?;
    let info: HubInfo = hub.get(route::HUB).await?;
    if credentials.pin()?.is_some_and(|pinned| pinned != info.authority.0) {
        let what = "the hub names another authority than the one that is pinned; do not go on";
        return Err(Error::Contradiction(what.to_owned()));
    }
    let user: User = hub.get(route::ME).await?;
    let path = credentials.keep()?;
    output::note(&format!(
        "{} ({}) at hub {}, kept in {}",
        user.name,
        user.role,
        info.address,
        path.display()
    ));
    Ok(())
}
