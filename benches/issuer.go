// What an issuer of one process looks like with Go's standard library: for each node a client and a serving
// certificate with a key of its own, a kubeconfig, and the CA's certificate, written without any sync. The
// benchmark of 5,000 nodes compares certkit with it.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

var (
	caKey *ecdsa.PrivateKey
	ca    *x509.Certificate
	caPEM []byte
)

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	must(err)
	return n
}

// issue makes a key and a certificate: both as PEM.
func issue(template *x509.Certificate) (cert, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template.SerialNumber = serial()
	template.NotBefore = time.Now().Add(-5 * time.Minute)
	template.NotAfter = time.Now().AddDate(1, 0, 0)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &private.PublicKey, caKey)
	must(err)
	keyDER, err := x509.MarshalECPrivateKey(private)
	must(err)
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	return cert, key
}

func node(root string, number int) {
	name := "w" + strconv.Itoa(number)
	dir := filepath.Join(root, "hosts", name)
	pki := filepath.Join(dir, "pki")
	must(os.MkdirAll(pki, 0o755))
	write := func(path string, content []byte, mode os.FileMode) {
		must(os.WriteFile(path, content, mode))
	}
	cert, key := issue(&x509.Certificate{
		Subject:     pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:" + name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	write(filepath.Join(pki, "kubelet-client.pem"), append(cert, key...), 0o600)
	cert, key = issue(&x509.Certificate{
		Subject:     pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:" + name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{name},
		IPAddresses: []net.IP{net.IPv4(10, 1, byte(number/250), byte(number%250+1))},
	})
	write(filepath.Join(pki, "kubelet.crt"), cert, 0o644)
	write(filepath.Join(pki, "kubelet.key"), key, 0o600)
	write(filepath.Join(pki, "ca.crt"), caPEM, 0o644)
	write(filepath.Join(pki, "ca-bundle.crt"), caPEM, 0o644)
	write(filepath.Join(dir, "kubelet.conf"), []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: b
  cluster: {server: "https://api:6443", certificate-authority: /etc/kubernetes/pki/ca-bundle.crt}
contexts:
- name: b
  context: {cluster: b, user: "system:node:%s"}
current-context: b
users:
- name: "system:node:%s"
  user: {client-certificate: /etc/kubernetes/pki/kubelet-client.pem, client-key: /etc/kubernetes/pki/kubelet-client.pem}
`, name, name)), 0o600)
}

func main() {
	root := os.Args[1]
	count, err := strconv.Atoi(os.Args[2])
	must(err)
	caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "kubernetes"},
		NotBefore: time.Now(), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &caKey.PublicKey, caKey)
	must(err)
	ca, err = x509.ParseCertificate(der)
	must(err)
	caPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for number := range numbers {
				node(root, number)
			}
		}()
	}
	for number := range count {
		numbers <- number
	}
	close(numbers)
	workers.Wait()
}
