// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Parameters} from "../dao/Parameters.sol";
import {HubWalletFactory} from "../wallet/HubWalletFactory.sol";
import {Deals} from "./Deals.sol";
import {Deposits} from "./Deposits.sol";
import {EscrowBase} from "./EscrowBase.sol";
import {Streams} from "./Streams.sol";

/// @title Buyers' money, until it is the hub's
/// @notice Deposits with vouchers for many small jobs, deals for large ones, streams for services. Hubs are paid to
/// their wallets, where devices' claims come first.
contract DealEscrow is Deposits, Deals, Streams {
    /// @notice Names the DAO.
    Parameters public immutable parameters;
    /// @notice Decides disputes; the DAO says who it is.
    address public court;

    /// @notice Somebody else decides disputes from now on.
    event CourtChanged(address indexed court);

    /// @param token_ What is paid in.
    /// @param factory_ Whose wallets hubs are paid to.
    /// @param parameters_ Names the DAO.
    /// @param court_ Decides disputes at first.
    constructor(IERC20 token_, HubWalletFactory factory_, Parameters parameters_, address court_)
        EscrowBase(token_, factory_)
    {
        parameters = parameters_;
        court = court_;
        emit CourtChanged(court_);
    }

    /// @notice Names the court.
    function setCourt(address court_) external {
        require(msg.sender == parameters.owner(), WrongParty(msg.sender));
        court = court_;
        emit CourtChanged(court_);
    }

    function _court() internal view override returns (address) {
        return court;
    }
}
