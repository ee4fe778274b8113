// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {HubWallet} from "../wallet/HubWallet.sol";
import {HubWalletFactory} from "../wallet/HubWalletFactory.sol";

/// @title What the parts of the escrow share
/// @dev Tokens only come in by {_take} and go out by {_give}, so that what is held is the sum of what the parts hold.
abstract contract EscrowBase {
    using SafeERC20 for IERC20;

    /// @notice What is held here.
    IERC20 public immutable token;
    /// @notice Whose wallets hubs are paid to.
    HubWalletFactory public immutable factory;

    /// @notice Hubs are paid to their wallets only.
    error NotAWallet(address wallet);
    /// @notice Nothing is nothing to agree on.
    error NoAmount();
    /// @notice Only this party may do this.
    error WrongParty(address caller);
    /// @notice Too early.
    /// @param until Seconds since 1970.
    error TooEarly(uint256 until);
    /// @notice Too late.
    /// @param until Seconds since 1970.
    error TooLate(uint256 until);

    constructor(IERC20 token_, HubWalletFactory factory_) {
        token = token_;
        factory = factory_;
    }

    modifier onlyWallets(address wallet) {
        require(factory.isWallet(wallet), NotAWallet(wallet));
        _;
    }

    /// @dev The owner of a wallet, or its hub, which works by itself.
    function _requireHub(address wallet) internal view {
        HubWallet its = HubWallet(wallet);
        require(msg.sender == its.hub() || msg.sender == its.owner(), WrongParty(msg.sender));
    }

    function _take(address from, uint256 amount) internal {
        require(amount != 0, NoAmount());
        token.safeTransferFrom(from, address(this), amount);
    }

    function _give(address to, uint256 amount) internal {
        if (amount != 0) {
            token.safeTransfer(to, amount);
        }
    }
}
