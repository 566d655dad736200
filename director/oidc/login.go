package oidc

import (
	"context"
	"errors"
	"fmt"
	"time"

	upstream "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Login logs a person in at a provider by the device flow (RFC 8628): show is told where
// he goes and what he types there, and it waits until he has. It gives his ID token, which
// a director is shown, and when that ends.
func Login(ctx context.Context, o Options, scopes []string, show func(where, code string)) (token string, until time.Time, err error) {
	client, err := newClient(o.CA)
	if err != nil {
		return "", time.Time{}, err
	}
	defer client.CloseIdleConnections()
	ctx = upstream.ClientContext(ctx, client)
	provider, err := upstream.NewProvider(ctx, o.Issuer)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("asking %s how to log in: %w", o.Issuer, err)
	}
	config := oauth2.Config{ClientID: o.ClientID, Endpoint: provider.Endpoint(), Scopes: append([]string{upstream.ScopeOpenID}, scopes...)}
	if config.Endpoint.DeviceAuthURL == "" {
		return "", time.Time{}, fmt.Errorf("%s has no device flow (RFC 8628): allow it there for client %s", o.Issuer, o.ClientID)
	}
	device, err := config.DeviceAuth(ctx)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("asking %s for a code: %w", o.Issuer, err)
	}
	where := device.VerificationURI
	if device.VerificationURIComplete != "" {
		where = device.VerificationURIComplete
	}
	show(where, device.UserCode)
	got, err := config.DeviceAccessToken(ctx, device)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("waiting for the login at %s: %w", o.Issuer, err)
	}
	raw, ok := got.Extra("id_token").(string)
	if !ok || raw == "" {
		return "", time.Time{}, errors.New("the provider gave no ID token: allow the scope openid there")
	}
	id, err := provider.Verifier(&upstream.Config{ClientID: o.ClientID}).Verify(ctx, raw)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("what the provider gave is no ID token for %s: %w", o.ClientID, err)
	}
	return raw, id.Expiry, nil
}
