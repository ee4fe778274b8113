// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {HubRegistry} from "../registry/HubRegistry.sol";
import {HubWallet} from "./HubWallet.sol";

/// @title Makes hubs' wallets
/// @notice An owner can have many; each is a small clone (ERC-1167) whose address is known before it is made, and whose
/// owner and hub are part of its code and never change.
contract HubWalletFactory {
    /// @notice The code that all wallets share.
    HubWallet public immutable code;

    /// @notice Whether a wallet is of this factory.
    mapping(address wallet => bool) public isWallet;
    mapping(address owner => address[]) private _walletsOf;

    /// @notice A wallet has been made.
    event WalletCreated(address indexed wallet, address indexed owner, address indexed hub, uint256 index);

    /// @notice A wallet must have a hub.
    error NoHub();

    /// @param token What wallets pay in.
    /// @param registry Where wallets register.
    constructor(IERC20 token, HubRegistry registry) {
        code = new HubWallet(token, registry, this);
    }

    /// @notice Makes the caller's next wallet.
    /// @param hub The address of the hub's key, which signs vouchers. It cannot be changed: vouchers out there are
    /// signed by it.
    function create(address hub) external returns (HubWallet wallet) {
        require(hub != address(0), NoHub());
        address[] storage mine = _walletsOf[msg.sender];
        uint256 index = mine.length;
        address made = Clones.cloneDeterministicWithImmutableArgs(
            address(code), abi.encode(msg.sender, hub), _salt(msg.sender, index)
        );
        isWallet[made] = true;
        mine.push(made);
        emit WalletCreated(made, msg.sender, hub, index);
        return HubWallet(made);
    }

    /// @notice Where the wallet will be that `owner` makes as number `index` for `hub`.
    function predict(address owner, address hub, uint256 index) external view returns (address) {
        return
            Clones.predictDeterministicAddressWithImmutableArgs(
                address(code), abi.encode(owner, hub), _salt(owner, index)
            );
    }

    /// @notice All wallets that an owner has made, in their order.
    function walletsOf(address owner) external view returns (address[] memory) {
        return _walletsOf[owner];
    }

    function _salt(address owner, uint256 index) private pure returns (bytes32) {
        return keccak256(abi.encode(owner, index));
    }
}
